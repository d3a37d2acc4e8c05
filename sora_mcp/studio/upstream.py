"""One gateway, as the studio works with it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from sora_mcp.config.endpoint import Endpoint
from sora_mcp.config.settings import Settings
from sora_mcp.core.accounts import Account
from sora_mcp.core.schedule import LONGEST_BACKOFF_S
from sora_mcp.dialects.protocol import Dialect

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway

PACE = 10.0
"""Seconds between two queries of a task: gateways refresh every 15 s, so asking faster gains nothing."""
LOCAL_PACE = 0.3
"""The same for a gateway on this machine."""
TICK = 1.0
"""Seconds between two looks at the ledger while somebody waits; the gateway is asked more rarely."""


class Upstream:
    """One gateway with its account in the ledger, and its name to the world (`label`).

    The client, and with it everything that speaks HTTP, is loaded when something is really asked.
    """

    def __init__(self, settings: Settings, endpoint: Endpoint, dialect: Dialect, account: Account, label: str) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._dialect = dialect
        self.account = account
        self.label = label
        self.usual_s: float | None = settings.sandbox_seconds if endpoint.sandbox else None
        """Seconds that a video takes, where that is a setting."""
        self.pace = LOCAL_PACE if _on_this_machine(endpoint) else PACE
        self.tick = min(self.pace, TICK)
        self._left_alone_until = -math.inf

    def leave_alone(self, seconds: float) -> None:
        """The gateway asked for that much patience; ten minutes at most are granted."""
        self._left_alone_until = max(self._left_alone_until, anyio.current_time() + min(seconds, LONGEST_BACKOFF_S))

    def may_be_asked(self) -> bool:
        """Whether the gateway has not asked to be left alone for now."""
        return anyio.current_time() >= self._left_alone_until

    @property
    def notice(self) -> str | None:
        """What is to be known of everything that is made there; None where nothing is, or the gateway has not said it
        yet."""
        return self._endpoint.notice or (self.gateway.client.notice if "gateway" in self.__dict__ else None)

    @cached_property
    def gateway(self) -> Gateway:
        """The client. Raises NotConfigured where the address cannot be one."""
        return connect(self._settings, self._endpoint, self._dialect)

    async def aclose(self) -> None:
        """Close the client, if there is one."""
        if "gateway" in self.__dict__:
            await self.gateway.aclose()


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
    from sora_mcp.sandbox import SERVED, Sandbox  # noqa: PLC0415

    sandbox = Sandbox(settings.home / "sandbox", seconds=settings.sandbox_seconds, capabilities=dialect.capabilities)
    return Gateway(endpoint, settings, dialect, transport=sandbox.transport(), served=SERVED)
