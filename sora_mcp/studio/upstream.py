"""One gateway, as the studio works with it."""

from __future__ import annotations

import logging
import math
import time
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
from msgspec import Struct, field

from sora_mcp import dialects
from sora_mcp.config.endpoint import SORA, Endpoint
from sora_mcp.config.settings import Settings
from sora_mcp.core.accounts import Account
from sora_mcp.core.advice import Advice, AskUser, Setting
from sora_mcp.core.errors import SoraError
from sora_mcp.core.schedule import MAX_BACKOFF_S
from sora_mcp.core.tasks import Task
from sora_mcp.dialects.protocol import Catalogued, Dialect
from sora_mcp.ledger import Entry
from sora_mcp.studio.catalogue import Catalogue
from sora_mcp.studio.queries import QueryTracker

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway

logger = logging.getLogger(__name__)

PACE = 10.0
"""Seconds between queries of a task: gateways refresh every 15 s, so querying faster gains nothing."""
LOCAL_PACE = 0.3
"""The same for a gateway on this machine."""
MODELS_TIMEOUT_S = 5.0
"""Seconds that listing the models before a create may take; without a list nothing is checked."""
MODELS_TTL_S = 60.0
"""Seconds for which a list of models is cached."""
NO_LIST = frozenset({404, 405, 501})
"""Statuses of a gateway that answers, but has no list of models."""
TICK = 1.0
"""Seconds between polls of the ledger while a caller waits; the gateway is queried less often."""


class _GatewayState(Struct):
    """A gateway's last answers to a key: the pause it asked for, and its models. Times are anyio's."""

    paused_until: float = -math.inf
    models: list[str] = field(default_factory=list)
    models_expire_at: float = -math.inf


class Upstream:
    """One gateway with its account in the ledger, and its name to the world (`label`).

    The client, and with it everything that speaks HTTP, is loaded at the first request.
    """

    def __init__(self, settings: Settings, endpoint: Endpoint, dialect: Dialect, account: Account, label: str) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self.dialect, self.dialect_name = dialect, settings.dialect
        self.account = account
        self.label = label
        self.usual_s: float | None = settings.sandbox_seconds if endpoint.sandbox else None
        """Seconds that a video takes, if that is a setting."""
        self.pace = pace_of(endpoint)
        self.tick = min(self.pace, TICK)
        self.queries = QueryTracker()
        self._state = _GatewayState()

    def for_account(self, account: Account, endpoint: Endpoint) -> Upstream:
        """Return the same gateway for another account, with the key of `endpoint`, over the same connections.

        Accounts with the same key share the gateway's answers to it. Raises NotConfigured as `gateway` does.
        """
        gateway, _ = self.gateway, self.catalogue  # cached before the copy, so that it has them
        upstream = copy(self)
        upstream.account = account
        if endpoint.api_key.get_secret_value() != self._endpoint.api_key.get_secret_value():
            upstream._endpoint, upstream._state = endpoint, _GatewayState()  # noqa: SLF001 - a copy of this one
            upstream.queries = QueryTracker()
            upstream.__dict__.pop("catalogue", None)
            upstream.gateway = gateway.with_key(endpoint)
        return upstream

    def dialect_of(self, entry: Entry) -> Dialect:
        """Return the dialect in which a video was made, whatever is configured now. Raises NotConfigured."""
        name = entry.dialect or SORA
        return self.dialect if name == self.dialect_name else dialects.named(name, self._settings)

    async def query(self, entry: Entry) -> Task:
        """Query the task of an entry once, in its own dialect; free. Raises what `Gateway.query` raises."""
        return await self.gateway.query(entry.task_id or "", self.dialect_of(entry))

    def pause(self, seconds: float) -> None:
        """Pause for the seconds that the gateway asked for, at most ten minutes."""
        deadline = anyio.current_time() + min(seconds, MAX_BACKOFF_S)
        self._state.paused_until = max(self._state.paused_until, deadline)

    def may_be_asked(self) -> bool:
        """Whether no pause that the gateway asked for is under way."""
        return anyio.current_time() >= self._state.paused_until

    @property
    def notice(self) -> str | None:
        """A notice about everything that is made there; None if there is none, or the gateway has not sent it yet."""
        return self._endpoint.notice or (self.gateway.client.notice if "gateway" in self.__dict__ else None)

    @cached_property
    def catalogue(self) -> Catalogue | None:
        """What its models take, if the gateway lists that."""
        dialect = self.dialect
        if not isinstance(dialect, Catalogued):
            return None

        async def fetch() -> str:
            return await self.gateway.catalogue(dialect)

        # The sandbox's models may change with each of our releases.
        folder = None if self._endpoint.sandbox else self._settings.home
        return Catalogue(folder, self._endpoint.base_url, dialect, fetch, time.time)

    async def listed_models(self) -> list[str]:
        """Return the names of the upstream's models, fetched now. Raises SoraError if it does not list them."""
        if self.catalogue is None:
            return (await self.gateway.probe()).models
        await self.catalogue.refresh()
        return [offer.id for offer in self.dialect.capabilities.offers]

    async def models(self) -> list[str]:
        """Return the names of the upstream's models, cached for a while; empty if it does not list them, or if the
        catalogue checks models anyway."""
        if self.catalogue is not None:
            return []
        state = self._state
        if anyio.current_time() >= state.models_expire_at:
            with anyio.move_on_after(MODELS_TIMEOUT_S):
                try:
                    state.models = (await self.gateway.probe()).models
                except SoraError as error:
                    logger.info("the models could not be listed: %s", error.message)
                    return []
                state.models_expire_at = anyio.current_time() + MODELS_TTL_S
                return state.models
            return []
        return state.models

    async def identify_server(self) -> tuple[Advice, ...]:
        """Return advice on what kind of server this is, if it lacks the documented paths; sends free requests."""
        from sora_mcp.dialects.recognition import PROBE_CALLS, lists_models, recognize  # noqa: PLC0415 - rarely needed

        replies = await self.gateway.try_calls(PROBE_CALLS)
        setting = Setting("dialect")
        if (name := recognize(replies)) is not None:
            return (AskUser(("set ", setting, f" to {name}: the server looks like one of that kind")),)
        if lists_models(replies):
            return (AskUser(("set ", setting, " to videos:generic, if the server has /v1/videos")),)
        return ()

    @cached_property
    def gateway(self) -> Gateway:
        """The client. Raises NotConfigured if the address is invalid."""
        return connect(self._settings, self._endpoint, self.dialect)

    async def aclose(self) -> None:
        """Close the client, if there is one."""
        if "gateway" in self.__dict__:
            await self.gateway.aclose()


def pace_of(endpoint: Endpoint) -> float:
    """Return the seconds between queries of a task at a gateway."""
    return LOCAL_PACE if _on_this_machine(endpoint) else PACE


def _on_this_machine(endpoint: Endpoint) -> bool:
    host = urlsplit(endpoint.base_url).hostname or ""
    return endpoint.sandbox or host in {"localhost", "::1"} or host.startswith("127.")


def connect(settings: Settings, endpoint: Endpoint, dialect: Dialect) -> Gateway:
    """Return the client of an endpoint. Raises NotConfigured if its address is invalid.

    Only this function knows the sandbox: for everything else it is a gateway like any other.
    """
    from sora_mcp.gateway import Gateway  # noqa: PLC0415 - with it, everything that speaks HTTP

    if not endpoint.sandbox:
        return Gateway(endpoint, settings, dialect)
    from sora_mcp.config.sharing import common_folder  # noqa: PLC0415 - as the sandbox itself
    from sora_mcp.sandbox import SERVED, Sandbox  # noqa: PLC0415

    sandbox = Sandbox(
        common_folder(settings) / "sandbox",
        seconds=settings.sandbox_seconds,
        capabilities=dialect.capabilities,
        dialect=settings.dialect,
        model=settings.model,
    )
    return Gateway(endpoint, settings, dialect, transport=sandbox.transport(), scheme_bases=SERVED)
