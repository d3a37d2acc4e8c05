"""One gateway, as the studio works with it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from sora_mcp.config.settings import Endpoint, Settings
from sora_mcp.core.accounts import Account
from sora_mcp.core.schedule import LONGEST_BACKOFF_S

if TYPE_CHECKING:
    import httpx

    from sora_mcp.gateway import Gateway

PACE = 10.0
"""Seconds between two queries of a task: gateways refresh every 15 s, so asking faster gains nothing."""
LOCAL_PACE = 0.3
"""The same for a gateway on this machine."""
TICK = 1.0
"""Seconds between two looks at the ledger while somebody waits; the gateway is asked more rarely."""


class Desk:
    """One gateway with its account in the ledger, and its name to the world (`label`).

    The client, and with it everything that speaks HTTP, is loaded when something is really asked.
    """

    def __init__(self, settings: Settings, endpoint: Endpoint, account: Account, label: str) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self.account = account
        self.label = label
        self.pace = LOCAL_PACE if _on_this_machine(endpoint) else PACE
        self.tick = min(self.pace, TICK)
        self._left_alone_until = -math.inf

    def leave_alone(self, seconds: float) -> None:
        """The gateway asked for that much patience; ten minutes at most are granted."""
        self._left_alone_until = max(self._left_alone_until, anyio.current_time() + min(seconds, LONGEST_BACKOFF_S))

    def may_be_asked(self) -> bool:
        """Whether the gateway has not asked to be left alone for now."""
        return anyio.current_time() >= self._left_alone_until

    @cached_property
    def gateway(self) -> Gateway:
        """The client. Raises NotConfigured where the address cannot be one."""
        from sora_mcp.gateway import Gateway  # noqa: PLC0415

        transport: httpx.AsyncBaseTransport | None = None
        if self._endpoint.sandbox:
            from sora_mcp.sandbox import Sandbox  # noqa: PLC0415

            settings = self._settings
            sandbox = Sandbox(settings.home / "sandbox", seconds=settings.sandbox_seconds, limits=settings.limits)
            transport = sandbox.transport()
        return Gateway(self._endpoint, self._settings, transport=transport)

    async def aclose(self) -> None:
        """Close the client, if there is one."""
        if "gateway" in self.__dict__:
            await self.gateway.aclose()


def _on_this_machine(endpoint: Endpoint) -> bool:
    host = urlsplit(endpoint.base_url).hostname or ""
    return endpoint.sandbox or host in {"localhost", "::1"} or host.startswith("127.")
