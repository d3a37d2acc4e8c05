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
from sora_mcp.core.schedule import LONGEST_BACKOFF_S
from sora_mcp.core.tasks import Task
from sora_mcp.dialects.protocol import Catalogued, Dialect
from sora_mcp.ledger import Entry
from sora_mcp.studio.catalogue import Catalogue
from sora_mcp.studio.questions import Questions

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway

logger = logging.getLogger(__name__)

PACE = 10.0
"""Seconds between two queries of a task: gateways refresh every 15 s, so asking faster gains nothing."""
LOCAL_PACE = 0.3
"""The same for a gateway on this machine."""
MODELS_WITHIN_S = 5.0
"""Seconds for asking for the models before a create; a list that does not come says nothing."""
MODELS_KNOWN_S = 60.0
"""Seconds for which a list of models is taken to hold."""
NO_LIST = frozenset({404, 405, 501})
"""Statuses of a gateway that answers, but has no list of models."""
TICK = 1.0
"""Seconds between two looks at the ledger while somebody waits; the gateway is asked more rarely."""


class _Heard(Struct):
    """What a gateway last said to a key: until when it wants to be left alone, and its models. Times are anyio's."""

    left_alone_until: float = -math.inf
    models: list[str] = field(default_factory=list)
    models_until: float = -math.inf


class Upstream:
    """One gateway with its account in the ledger, and its name to the world (`label`).

    The client, and with it everything that speaks HTTP, is loaded when something is really asked.
    """

    def __init__(self, settings: Settings, endpoint: Endpoint, dialect: Dialect, account: Account, label: str) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self.dialect, self.dialect_name = dialect, settings.dialect
        self.account = account
        self.label = label
        self.usual_s: float | None = settings.sandbox_seconds if endpoint.sandbox else None
        """Seconds that a video takes, where that is a setting."""
        self.pace = pace_of(endpoint)
        self.tick = min(self.pace, TICK)
        self.questions = Questions()
        self._heard = _Heard()

    def for_account(self, account: Account, endpoint: Endpoint) -> Upstream:
        """The same gateway for another of those who share it, with the key of `endpoint`, over the same connections.

        Whoever has the same key shares what the gateway said to it. Raises NotConfigured as `gateway` does.
        """
        shared, _ = self.gateway, self.catalogue  # both made before the copy, which has them then
        twin = copy(self)
        twin.account = account
        if endpoint.api_key.get_secret_value() != self._endpoint.api_key.get_secret_value():
            twin._endpoint, twin._heard = endpoint, _Heard()  # noqa: SLF001 - a copy of this one
            twin.questions = Questions()
            twin.__dict__.pop("catalogue", None)
            twin.gateway = shared.with_key(endpoint)
        return twin

    def dialect_of(self, entry: Entry) -> Dialect:
        """The words that a video was made in, whatever is configured now. Raises NotConfigured."""
        name = entry.dialect or SORA
        return self.dialect if name == self.dialect_name else dialects.named(name, self._settings)

    async def query(self, entry: Entry) -> Task:
        """One look at the task of an entry, in its own words; free. Raises what `Gateway.query` raises."""
        return await self.gateway.query(entry.task_id or "", self.dialect_of(entry))

    def leave_alone(self, seconds: float) -> None:
        """The gateway asked for that much patience; ten minutes at most are granted."""
        until = anyio.current_time() + min(seconds, LONGEST_BACKOFF_S)
        self._heard.left_alone_until = max(self._heard.left_alone_until, until)

    def may_be_asked(self) -> bool:
        """Whether the gateway has not asked to be left alone for now."""
        return anyio.current_time() >= self._heard.left_alone_until

    @property
    def notice(self) -> str | None:
        """What is to be known of everything that is made there; None where nothing is, or the gateway has not said it
        yet."""
        return self._endpoint.notice or (self.gateway.client.notice if "gateway" in self.__dict__ else None)

    @cached_property
    def catalogue(self) -> Catalogue | None:
        """What its models take, where it lists that."""
        dialect = self.dialect
        if not isinstance(dialect, Catalogued):
            return None

        async def fetch() -> str:
            return await self.gateway.catalogue(dialect)

        # What the sandbox has may change with each release of ours.
        folder = None if self._endpoint.sandbox else self._settings.home
        return Catalogue(folder, self._endpoint.base_url, dialect, fetch, time.time)

    async def listed_models(self) -> list[str]:
        """The names of the upstream's models, asked for now. Raises SoraError where it does not tell them."""
        if self.catalogue is None:
            return (await self.gateway.probe()).models
        await self.catalogue.renew()
        return [offer.id for offer in self.dialect.capabilities.offers]

    async def models(self) -> list[str]:
        """The names of the upstream's models, asked for once in a while; none where it does not tell them, and none
        where what each takes is known, and checked, anyway."""
        if self.catalogue is not None:
            return []
        heard = self._heard
        if anyio.current_time() >= heard.models_until:
            with anyio.move_on_after(MODELS_WITHIN_S):
                try:
                    heard.models = (await self.gateway.probe()).models
                except SoraError as error:
                    logger.info("the models could not be listed: %s", error.message)
                    return []
                heard.models_until = anyio.current_time() + MODELS_KNOWN_S
                return heard.models
            return []
        return heard.models

    async def what_it_is(self) -> tuple[Advice, ...]:
        """What kind of server this is, where it has no address of the documented kind: found out with free requests."""
        from sora_mcp.dialects.recognition import LOOKS, lists_models, recognized  # noqa: PLC0415 - rarely needed

        replies = await self.gateway.replies(LOOKS)
        setting = Setting("dialect")
        if (name := recognized(replies)) is not None:
            return (AskUser(("set ", setting, f" to {name}: the server looks like one of that kind")),)
        if lists_models(replies):
            return (AskUser(("set ", setting, " to videos:generic, if the server has /v1/videos")),)
        return ()

    @cached_property
    def gateway(self) -> Gateway:
        """The client. Raises NotConfigured where the address cannot be one."""
        return connect(self._settings, self._endpoint, self.dialect)

    async def aclose(self) -> None:
        """Close the client, if there is one."""
        if "gateway" in self.__dict__:
            await self.gateway.aclose()


def pace_of(endpoint: Endpoint) -> float:
    """Seconds between two queries of a task at a gateway."""
    return LOCAL_PACE if _on_this_machine(endpoint) else PACE


def _on_this_machine(endpoint: Endpoint) -> bool:
    host = urlsplit(endpoint.base_url).hostname or ""
    return endpoint.sandbox or host in {"localhost", "::1"} or host.startswith("127.")


def connect(settings: Settings, endpoint: Endpoint, dialect: Dialect) -> Gateway:
    """The client of an endpoint. Raises NotConfigured where it cannot be one.

    The sandbox is named here alone: to everything else it is a gateway like any other.
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
    return Gateway(endpoint, settings, dialect, transport=sandbox.transport(), served=SERVED)
