"""Leases: a task is polled by one process at a time, which claims its row and keeps the claim alive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio

from sora_mcp.core.errors import FileProblem, SoraError
from sora_mcp.core.records import Entry
from sora_mcp.core.schedule import LEASE_S, MAX_BACKOFF_S
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.rows import of_request, of_request_if_free
from sora_mcp.ledger.sql.transactions import Held

END_WITHIN_S = 1.0
"""Seconds to wait for a claim's end to be recorded where somebody gave up; otherwise it ends by itself."""

Write = Callable[[Callable[[Database], object]], Awaitable[object]]
"""Does some work in one transaction that writes."""


@asynccontextmanager
async def lease(
    write: Write, clock: Callable[[], float], request_id: str, pause_s: float, seen: Entry | None
) -> AsyncIterator[bool]:
    """See Ledger.lease."""
    claim = _Claim(write, clock, request_id)
    try:
        is_ours = await claim.take(seen)
    except Held:  # by a process that was stopped, perhaps: what is known has to do
        is_ours = False
    if not is_ours:
        yield False
        return
    failed: Exception | None = None
    try:
        async with anyio.create_task_group() as meanwhile:
            meanwhile.start_soon(claim.keep)
            try:
                yield True
            except Exception as error:  # noqa: BLE001 - raised below: the task group would wrap it
                failed = error
            meanwhile.cancel_scope.cancel()
    except BaseException:  # given up: the question may be on its way
        with anyio.move_on_after(END_WITHIN_S, shield=True), suppress(FileProblem):
            await claim.end(pause_s, missed=False)
        raise
    if failed is not None:
        asked_for = failed.retry_after_s if isinstance(failed, SoraError) else None
        with suppress(FileProblem):
            await claim.end(max(pause_s, asked_for or 0), missed=True)
        raise failed


class _Claim:
    """One process's claim on a row: it stands as `not_before`, and ends with what is recorded, or with `end`."""

    def __init__(self, write: Write, clock: Callable[[], float], request_id: str) -> None:
        self._write = write
        self._clock = clock
        self._request_id = request_id
        self._until = 0.0

    async def take(self, seen: Entry | None) -> bool:
        """Whether the row could be claimed. See Ledger.lease."""

        def work(db: Database) -> bool:
            now = self._clock()
            entry = of_request_if_free(db, self._request_id)  # whoever holds it asks about it, or has just asked
            if entry is None or not entry.may_be_polled(now):
                return False
            if seen is not None and entry.polled_at != seen.polled_at:
                return False
            self._until = now + LEASE_S
            self._set(db, now, self._until)
            return True

        return bool(await self._write(work))

    async def keep(self) -> None:
        """Keep the claim alive, until cancelled."""

        def work(db: Database) -> None:
            if self._stands(db):
                self._until = self._clock() + LEASE_S
                self._set(db, self._clock(), self._until)

        while True:
            await anyio.sleep(LEASE_S / 3)
            with suppress(FileProblem):  # what goes on under the claim goes on without it
                await self._write(work)

    async def end(self, pause_s: float, *, missed: bool) -> None:
        """It came to nothing; the next one waits for `pause_s` seconds (MAX_BACKOFF_S at most)."""

        def work(db: Database) -> None:
            now = self._clock()
            if self._stands(db):
                self._set(db, now, now + min(pause_s, MAX_BACKOFF_S))
            db.execute("UPDATE videos SET misses = misses + ? WHERE request_id = ?", [int(missed), self._request_id])

        await self._write(work)

    def _stands(self, db: Database) -> bool:
        return of_request(db, self._request_id).not_before == self._until

    def _set(self, db: Database, looked_at: float, not_before: float) -> None:
        sql = "UPDATE videos SET looked_at = ?, not_before = ? WHERE request_id = ?"
        db.execute(sql, (looked_at, not_before, self._request_id))
