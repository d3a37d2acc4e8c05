"""Admission of the paid calls of one process: one at a time is recorded, in the order in which they came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from sora_mcp.core.errors import FileProblem, OverCap
from sora_mcp.ledger.sql.transactions import BUSY_S, LINE_S


class Admission:
    """A stopped server, or a ledger that is held, keeps those in line waiting: none of them for long."""

    def __init__(self) -> None:
        self._turn = anyio.Semaphore(1, fast_acquire=True)
        self._waiting: dict[anyio.CancelScope, float] = {}
        """Those who wait, and until when they do at most."""

    @asynccontextmanager
    async def turn(self, why_not: Callable[[], FileProblem]) -> AsyncIterator[None]:
        """Wait while those before get on. Raises `why_not` where none of them did for BUSY_S, and after LINE_S."""
        if not await self._has_come():
            raise why_not()
        try:
            yield
        except OverCap:
            self._let_others_wait_on()
            raise
        else:
            self._let_others_wait_on()
        finally:
            self._turn.release()

    async def _has_come(self) -> bool:
        with anyio.move_on_after(BUSY_S) as wait:
            self._waiting[wait] = anyio.current_time() + LINE_S
            try:
                await self._turn.acquire()
            finally:
                del self._waiting[wait]
            return True
        return False

    def _let_others_wait_on(self) -> None:
        for wait, until in self._waiting.items():
            wait.deadline = min(anyio.current_time() + BUSY_S, until)
