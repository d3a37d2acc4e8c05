"""What is told of the gateway: from its capabilities, the settings, the ledger, and one free request to it."""

from __future__ import annotations

from collections.abc import Iterator

import anyio

from sora_mcp import dialects
from sora_mcp.config.endpoint import NOTICE_EXPLAINED
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Advice, Message, TryAgain
from sora_mcp.core.capabilities import OPERATIONS, Capabilities, Support
from sora_mcp.core.description import Description, OfferedLength, OfferedModel, OfferedSize, Spent, Status
from sora_mcp.core.errors import BadReply, NotConfigured, SoraError, Unreachable
from sora_mcp.core.spending import Spending
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import is_plain_id
from sora_mcp.ledger import Ledger
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.poller import Poller
from sora_mcp.studio.upstream import Upstream

ASK_WITHIN = 10.0
"""Seconds that the gateway has to answer."""
MOST_MODELS = 20
"""So many of the models that a gateway lists are named."""
_NO_LIST = {404, 405, 501}
"""Statuses of a gateway that answers, but has no list of models."""
_VERBS = {"simple_compose": "create"}
"""What an operation is called, where that is not its own name."""


class Describer:
    """Describes the gateway. Raises nothing: what cannot be found out is said to be a problem."""

    def __init__(self, settings: Settings, ledger: Ledger, connector: Connector, poller: Poller) -> None:
        self._settings = settings
        self._ledger = ledger
        self._connector = connector
        self._poller = poller

    async def describe(self) -> Description:
        """Everything that can be known now; see `Studio.describe`."""
        problems = list(self._misspelt())
        upstream, status = await self._connect(problems)
        spent, listed = None, None
        if upstream is not None:
            status, listed = await self._ask(upstream, problems)
            spent = await self._spent(upstream, problems, may_ask=status == "ok")
        limits = self._connector.dialect.capabilities
        messages: list[Message] = [error.parts for error in problems]
        advice: list[Advice] = [each for error in problems for each in error.advice]
        return Description(
            gateway=self._connector.label,
            dialect=dialects.name_of(self._settings),
            status=status,
            notice=self._connector.notice,
            explanation=NOTICE_EXPLAINED if self._connector.notice else None,
            operations=_operations(limits),
            models=_models(limits),
            listed_models=listed,
            rules=limits.rules() or None,
            max_variants=limits.max_variants,
            max_prompt_length=limits.max_prompt_length,
            spent=spent,
            caps=self._caps(spent),
            problems=tuple(messages),
            advice=tuple(advice),
        )

    async def _connect(self, problems: list[SoraError]) -> tuple[Upstream | None, Status]:
        try:
            return await self._connector.connect(), "ok"
        except NotConfigured as error:
            problems.append(error)
            return None, "not_configured"
        except SoraError as error:
            problems.append(error)
            return None, "not_asked"

    async def _spent(self, upstream: Upstream, problems: list[SoraError], *, may_ask: bool) -> Spent | None:
        """What counts for the caps, once the gateway was asked about what is under way (`may_ask`)."""
        try:
            if may_ask and self._ledger.exists():
                await self._poller.refresh_unfinished(upstream)
            spending = await self._ledger.spending(upstream.account) if self._ledger.exists() else Spending()
        except SoraError as error:
            problems.append(error)
            return None
        unknown = sum(video.state == "unknown" for video in spending.running)
        return Spent(
            cost=round(spending.spent, 2),
            uncertain=round(spending.uncertain, 2),
            under_way=len(spending.running) - unknown,
            unknown=unknown,
            calls=spending.calls,
        )

    async def _ask(self, upstream: Upstream, problems: list[SoraError]) -> tuple[Status, list[str] | None]:
        """How the gateway stands, and the models that it lists, as far as those are plain ids."""
        try:
            with anyio.fail_after(ASK_WITHIN):
                models = await upstream.listed_models()
        except TimeoutError:
            problems.append(BadReply(f"The gateway did not answer within {ASK_WITHIN:g} s.", TryAgain()))
            return "trouble", None
        except SoraError as error:
            if error.http_status in _NO_LIST:
                return "ok", None
            problems.append(error)
            return _status(error), None
        return "ok", [each for each in models if is_plain_id(each)][:MOST_MODELS]

    def _misspelt(self) -> Iterator[SoraError]:
        """That paid calls are refused, where a guard against costs may be misspelt."""
        try:
            self._settings.check_guards_spelling()
        except NotConfigured as error:
            yield error

    def _caps(self, spent: Spent | None) -> dict[str, float]:
        """The caps that are set, and what is left of them."""
        settings = self._settings
        day, places, calls = settings.max_cost_per_day, settings.max_running, settings.max_calls_per_day
        caps = {
            "per_call": settings.max_cost_per_call,
            "per_day": day,
            "left_today": None if day is None or spent is None else round(day - spent.cost - spent.uncertain, 2),
            "running": places,
            "places_left": None if places is None or spent is None else places - spent.under_way - spent.unknown,
            "calls_per_day": calls,
            "calls_left": None if calls is None or spent is None else calls - spent.calls,
            "ask_above": settings.ask_above_cost,
        }
        return {name: max(0, value) for name, value in caps.items() if value is not None}


def _status(error: SoraError) -> Status:
    if isinstance(error, NotConfigured):
        return "not_configured"
    if error.http_status in {401, 403}:
        return "key_refused"
    return "unreachable" if isinstance(error, Unreachable) else "trouble"


def _operations(limits: Capabilities) -> dict[Support, list[str]]:
    verbs: dict[Support, list[str]] = {}
    for operation in OPERATIONS:
        verbs.setdefault(limits.support(operation), []).append(_VERBS.get(operation, operation))
    return verbs


def _models(limits: Capabilities) -> list[OfferedModel]:
    """What each model takes; where none is known by name, what the gateway takes."""
    sizes = [
        OfferedSize(width=width, height=height, cost=None if size is None else size.cost)
        for (width, height), size in sorted(limits.sizes.items())
    ]
    lengths = [
        OfferedLength(n_frames=frames, seconds=round(frames / FPS, 2), factor=factor)
        for frames, factor in sorted(limits.lengths.items())
    ]
    return [OfferedModel(names=list(limits.models) or None, sizes=sizes, lengths=lengths)]
