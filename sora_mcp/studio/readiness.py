"""Whether paid calls could be made now: the ledger can be used, the gateway is set and answers. Costs nothing."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
from msgspec import Struct

from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Message, Setting
from sora_mcp.core.errors import FileProblem, NotConfigured, SoraError, Unreachable
from sora_mcp.ledger import Ledger
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.upstream import NO_LIST

logger = logging.getLogger(__name__)

CHECK_TIMEOUT_S = 5.0
"""Seconds that the ledger and the gateway each have to answer."""
READINESS_TTL_S = 5.0
"""Seconds for which a result is cached: frequent checks do not query the gateway as often."""


class Readiness(Struct, frozen=True):
    """What is missing, in a sentence each; None if nothing is. Contains no secrets: any client may read it."""

    ledger: Message | None
    gateway: Message | None

    @property
    def is_ready(self) -> bool:
        return self.ledger is None and self.gateway is None


class ReadinessCheck:
    """Checks the ledger and the gateway, and caches the result."""

    def __init__(self, settings: Settings, ledger: Ledger, connector: Connector) -> None:
        self._settings = settings
        self._ledger = ledger
        self._connector = connector
        self._cached = Readiness(None, None)
        self._expires_at = -math.inf
        self._lock = anyio.Lock()

    async def check(self) -> Readiness:
        """Return the readiness, at most READINESS_TTL_S seconds old. Raises nothing."""
        async with self._lock:
            if anyio.current_time() >= self._expires_at:
                self._cached = Readiness(await _bounded(self._check_ledger), await _bounded(self._check_gateway))
                self._expires_at = anyio.current_time() + READINESS_TTL_S
            return self._cached

    async def _check_ledger(self) -> Message | None:
        try:
            if self._ledger.exists():
                await self._ledger.check_can_begin()
        except SoraError as error:
            logger.warning("not ready: %s", error.message)
            if self._settings.ledger_url is not None:
                return ("The ledger in PostgreSQL (", Setting("ledger_url"), ") cannot be used.")
            return ("The ledger in ", Setting("home"), " cannot be used.")
        if not _is_writable(self._settings.home):
            return ("The folder of ", Setting("home"), " cannot be written.")
        return None

    async def _check_gateway(self) -> Message | None:
        try:
            upstream = await self._connector.connect()
            await upstream.gateway.probe()
        except NotConfigured as error:
            return None if self._has_key_for_each() else error.parts
        except SoraError as error:
            if error.http_status in NO_LIST:
                return None
            if isinstance(error, FileProblem):
                return "The gateway is not checked while the ledger cannot be used."
            logger.warning("not ready: %s", error.message)
            if error.http_status in {401, 403}:
                return "The gateway refuses the key."
            if isinstance(error, Unreachable):
                return "The gateway cannot be reached."
            return "The gateway can be reached, but it does not answer correctly."
        return None

    def _has_key_for_each(self) -> bool:
        """Whether only a shared key is missing: callers may have one each."""
        from sora_mcp.config.sharing import endpoint_without_key  # noqa: PLC0415 - most servers have one person

        with suppress(NotConfigured):
            endpoint_without_key(self._settings)
            return bool(self._settings.auth) and self._settings.api_key is None
        return False


async def _bounded(check: Callable[[], Awaitable[Message | None]]) -> Message | None:
    with anyio.move_on_after(CHECK_TIMEOUT_S):
        return await check()
    return f"There was no answer within {CHECK_TIMEOUT_S:g} s."


def _is_writable(folder: Path) -> bool:
    """Whether files can be written there; a missing folder is created when it is needed."""
    existing = next((each for each in (folder, *folder.parents) if each.exists()), None)
    return existing is not None and os.access(existing, os.W_OK | os.X_OK)
