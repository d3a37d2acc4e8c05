"""A description of the gateway: from its capabilities, the settings, the ledger, and one free request to it."""

from __future__ import annotations

from collections.abc import Iterator

import anyio

from sora_mcp import dialects
from sora_mcp.config.endpoint import NOTICE_EXPLAINED
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Advice, AskUser, Message, Setting, TryAgain
from sora_mcp.core.capabilities import OPERATIONS, Capabilities, ModelOffer, Support, verb_of
from sora_mcp.core.caps import OverCap
from sora_mcp.core.cost import RELATIVE, Cost, sum_in_unit
from sora_mcp.core.description import Description, OfferedLength, OfferedModel, OfferedSize, Spent, Status
from sora_mcp.core.errors import (
    BadReply,
    InvalidInput,
    NotConfigured,
    Problem,
    SoraError,
    Unreachable,
)
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.spending import Spending, TeamCaps
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import is_plain_id
from sora_mcp.dialects.protocol import Catalogued
from sora_mcp.ledger import Ledger
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.costs import cost_fields, spending_policy
from sora_mcp.studio.poller import Poller
from sora_mcp.studio.upstream import NO_LIST, Upstream

PROBE_TIMEOUT_S = 10.0
"""Seconds that the gateway has to answer."""
MAX_MODELS = 20
"""Models of the gateway's list that are named."""


class Describer:
    """Describes the gateway. Raises nothing: what cannot be found out is reported as a problem."""

    def __init__(self, settings: Settings, ledger: Ledger, connector: Connector, poller: Poller) -> None:
        self._settings = settings
        self._ledger = ledger
        self._connector = connector
        self._poller = poller

    async def describe(self, model: str | None = None) -> Description:
        """Return everything known now; see `Studio.describe`."""
        problems = list(self._guard_problems())
        upstream, status = await self._connect(problems)
        spending, listed = None, None
        if upstream is not None:
            status, listed = await self._probe(upstream, problems)
            spending = await self._spending(upstream, problems, may_query=status == "ok")
        limits = self._limits(model)
        problems += self._unlisted_model(limits)
        messages: list[Message] = [error.parts for error in problems]
        advice: list[Advice] = [each for error in problems for each in error.advice]
        return Description(
            gateway=self._connector.label,
            dialect=dialects.name_of(self._settings),
            status=status,
            notice=self._connector.notice,
            explanation=NOTICE_EXPLAINED if self._connector.notice else None,
            operations=_operations(limits),
            models=_models(limits, model or self._settings.model),
            offers=limits.offers if model is None else (),
            is_dialect_implied=self._settings.dialect_is_implied,
            listed_models=listed,
            rules=limits.rules() or None,
            max_variants=limits.max_variants,
            max_prompt_length=limits.max_prompt_length,
            spent=None if spending is None else _spent(spending, limits),
            caps=self._caps(spending),
            problems=tuple(messages),
            advice=tuple(advice),
        )

    def _limits(self, model: str | None) -> Capabilities:
        """Return what can be requested, with `model` if given. Raises InvalidInput if it is not listed."""
        dialect = self._connector.dialect
        if model is None:
            return dialect.capabilities
        if not isinstance(dialect, Catalogued):
            raise InvalidInput([Problem("model", "this gateway does not say what each model accepts", "leave it out")])
        return dialect.capabilities_of(VideoRequest(operation="simple_compose", model=model))

    def _unlisted_model(self, limits: Capabilities) -> Iterator[SoraError]:
        """Yield an error if the configured model is not among those that the gateway lists with what each takes."""
        try:
            if limits.offers and self._settings.model is not None:
                self._limits(self._settings.model)
        except InvalidInput as error:
            yield NotConfigured(error.parts, AskUser(("set ", Setting("model"), " to one that it lists")))

    async def _connect(self, problems: list[SoraError]) -> tuple[Upstream | None, Status]:
        try:
            return await self._connector.connect(), "ok"
        except NotConfigured as error:
            problems.append(error)
            return None, "not_configured"
        except SoraError as error:
            problems.append(error)
            return None, "not_asked"

    async def _spending(self, upstream: Upstream, problems: list[SoraError], *, may_query: bool) -> Spending | None:
        """Return what counts for the caps, after querying what is under way (if `may_query`)."""
        try:
            if may_query and self._ledger.exists():
                await self._poller.refresh_unfinished(upstream)
            scope = upstream.account.person if self._settings.is_shared else upstream.account
            return await self._ledger.spending(scope) if self._ledger.exists() else Spending()
        except SoraError as error:
            problems.append(error)
            return None

    async def _probe(self, upstream: Upstream, problems: list[SoraError]) -> tuple[Status, list[str] | None]:
        """Return the gateway's status, and the models that it lists, as far as those are plain ids."""
        try:
            with anyio.fail_after(PROBE_TIMEOUT_S):
                models = await upstream.listed_models()
        except TimeoutError:
            problems.append(BadReply(f"The gateway did not answer within {PROBE_TIMEOUT_S:g} s.", TryAgain()))
            return "trouble", None
        except SoraError as error:
            if error.http_status in NO_LIST:
                return "ok", None
            problems.append(error)
            return _status(error), None
        return "ok", [each for each in models if is_plain_id(each)][:MAX_MODELS]

    def _guard_problems(self) -> Iterator[SoraError]:
        """Yield an error if paid calls are refused because a cost guard may be misspelt or cannot be enforced."""
        try:
            self._settings.check_guards_spelling()
            spending_policy(self._settings, self._connector.dialect.capabilities).check_units()
        except (NotConfigured, OverCap) as error:
            yield error

    def _caps(self, spending: Spending | None) -> dict[str, float | str]:
        """Return the configured caps, and what is left of them."""
        settings = self._settings
        policy = spending_policy(settings, self._connector.dialect.capabilities)
        per_day, slots, calls, team = policy.per_day, policy.running, policy.calls_per_day, policy.team or TeamCaps()
        costs = {
            "per_call": settings.max_cost_per_call,
            "per_day": per_day,
            "left_today": None if per_day is None or spending is None else _left_today(per_day, spending),
            "ask_above": settings.ask_above_cost,
            "team_per_day": team.per_day,
        }
        numbers = {
            "running": slots,
            "places_left": None if slots is None or spending is None else slots - len(spending.running),
            "calls_per_day": calls,
            "calls_left": None if calls is None or spending is None else calls - spending.calls,
            "team_running": team.running,
            "team_calls_per_day": team.calls_per_day,
        }
        caps: dict[str, float | str] = {name: max(0, value) for name, value in numbers.items() if value is not None}
        caps |= {name: cap.amount if cap.is_relative else str(cap) for name, cap in costs.items() if cap is not None}
        return {name: caps[name] for name in _CAP_ORDER if name in caps}


_CAP_ORDER = (
    *("per_call", "per_day", "left_today", "running", "places_left", "calls_per_day", "calls_left", "ask_above"),
    *("team_per_day", "team_running", "team_calls_per_day"),
)
"""The fields, in the order of the result; of the team's caps the amounts left are not disclosed."""


def _spent(spending: Spending, limits: Capabilities) -> Spent:
    unknown = sum(video.state == "unknown" for video in spending.running)
    unpriced = 0 if limits.unit == RELATIVE else spending.calls - spending.priced.get(limits.unit, 0)
    return Spent(
        **cost_fields(spending.spent, spending.uncertain, limits.unit),
        unpriced=unpriced or None,
        under_way=len(spending.running) - unknown,
        unknown=unknown,
    )


def _left_today(per_day: Cost, spending: Spending) -> Cost:
    """Return what is left of a day's cap: all of it if its unit is not that of the gateway's prices."""
    return per_day.minus(sum_in_unit(spending.spent, per_day.unit)).minus(sum_in_unit(spending.uncertain, per_day.unit))


def _status(error: SoraError) -> Status:
    if isinstance(error, NotConfigured):
        return "not_configured"
    if error.http_status in {401, 403}:
        return "key_refused"
    return "unreachable" if isinstance(error, Unreachable) else "trouble"


def _operations(limits: Capabilities) -> dict[Support, list[str]]:
    verbs: dict[Support, list[str]] = {}
    for operation in OPERATIONS:
        verbs.setdefault(limits.support(operation), []).append(verb_of(operation))
    return verbs


def _models(limits: Capabilities, model: str | None) -> list[OfferedModel]:
    """Return what each model takes; if no model is known by name, what the gateway takes; if the gateway lists what
    each takes, only that of `model`."""
    sizes = [
        OfferedSize(width=width, height=height, cost=None if size is None else size.cost)
        for (width, height), size in sorted(limits.sizes.items())
    ]
    lengths = [
        OfferedLength(n_frames=frames, seconds=round(frames / FPS, 2), factor=factor)
        for frames, factor in sorted(limits.lengths.items())
    ]
    if not limits.offers:
        return [OfferedModel(names=list(limits.models) or None, sizes=sizes, lengths=lengths)]
    offer = next((each for each in limits.offers if each.id == model), None)
    return [] if offer is None else [_full_model(offer, sizes, lengths)]


def _full_model(offer: ModelOffer, sizes: list[OfferedSize], lengths: list[OfferedLength]) -> OfferedModel:
    lists = {name: getattr(offer, name) for name in ("resolutions", "aspect_ratios", "frame_images")}
    return OfferedModel(
        names=[offer.id],
        sizes=sizes,
        lengths=lengths,
        **{name: None if values is None else list(values) for name, values in lists.items()},
        audio=offer.audio,
        seed=offer.seed,
        prices=offer.plain_prices or None,
    )
