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

LOOK_WITHIN_S = 5.0
"""Seconds that the ledger and the gateway have to answer, each."""
KNOWN_FOR_S = 5.0
"""Seconds for which what was seen is told again: whoever asks often does not ask the gateway as often."""


class Readiness(Struct, frozen=True):
    """What is missing, in a sentence each; None where nothing is. Nothing of it is secret: anybody may ask."""

    ledger: Message | None
    gateway: Message | None

    @property
    def is_ready(self) -> bool:
        return self.ledger is None and self.gateway is None


class ReadinessCheck:
    """Looks at the ledger and the gateway once in a while."""

    def __init__(self, settings: Settings, ledger: Ledger, connector: Connector) -> None:
        self._settings = settings
        self._ledger = ledger
        self._connector = connector
        self._seen = Readiness(None, None)
        self._seen_until = -math.inf
        self._one_at_a_time = anyio.Lock()

    async def look(self) -> Readiness:
        """How things stand, or stood at most KNOWN_FOR_S seconds ago. Raises nothing."""
        async with self._one_at_a_time:
            if anyio.current_time() >= self._seen_until:
                self._seen = Readiness(await _bounded(self._look_at_ledger), await _bounded(self._look_at_gateway))
                self._seen_until = anyio.current_time() + KNOWN_FOR_S
            return self._seen

    async def _look_at_ledger(self) -> Message | None:
        try:
            if self._ledger.exists():
                await self._ledger.check_place()
        except SoraError as error:
            logger.warning("not ready: %s", error.message)
            if self._settings.ledger_url is not None:
                return ("The ledger in PostgreSQL (", Setting("ledger_url"), ") cannot be used.")
            return ("The ledger in ", Setting("home"), " cannot be used.")
        if not _is_writable(self._settings.home):
            return ("The folder of ", Setting("home"), " cannot be written.")
        return None

    async def _look_at_gateway(self) -> Message | None:
        try:
            upstream = await self._connector.connect()
            await upstream.gateway.probe()
        except NotConfigured as error:
            return None if self._has_key_for_each() else error.parts
        except SoraError as error:
            if error.http_status in NO_LIST:
                return None
            if isinstance(error, FileProblem):
                return "The gateway is not asked while the ledger cannot be used."
            logger.warning("not ready: %s", error.message)
            if error.http_status in {401, 403}:
                return "The gateway refuses the key."
            if isinstance(error, Unreachable):
                return "The gateway cannot be reached."
            return "The gateway is in trouble: it answers, but not as it should."
        return None

    def _has_key_for_each(self) -> bool:
        """Whether nothing is missing but a key for all: callers may have one each."""
        from sora_mcp.config.sharing import endpoint_without_key  # noqa: PLC0415 - most servers have one person

        with suppress(NotConfigured):
            endpoint_without_key(self._settings)
            return bool(self._settings.auth) and self._settings.api_key is None
        return False


async def _bounded(look: Callable[[], Awaitable[Message | None]]) -> Message | None:
    with anyio.move_on_after(LOOK_WITHIN_S):
        return await look()
    return f"An answer takes longer than {LOOK_WITHIN_S:g} s."


def _is_writable(folder: Path) -> bool:
    """Whether files can be written there; a folder that is not there yet is made when it is needed."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), None)
    return there is not None and os.access(there, os.W_OK | os.X_OK)
