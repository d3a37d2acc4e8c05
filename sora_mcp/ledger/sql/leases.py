"""Leases: a task is polled by one process at a time, which claims its row and keeps the claim alive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio

from sora_mcp.core.errors import FileProblem, SoraError
from sora_mcp.core.records import Entry
from sora_mcp.core.schedule import LEASE_S, MAX_BACKOFF_S
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.rows import get_by_request, get_by_request_if_unlocked
from sora_mcp.ledger.sql.transactions import LedgerBusy

END_TIMEOUT_S = 1.0
"""Seconds to wait for a cancelled claim's release to be recorded; otherwise it expires by itself."""

Write = Callable[[Callable[[Database], object]], Awaitable[object]]
"""Runs some work in one write transaction."""


@asynccontextmanager
async def lease(
    write: Write, clock: Callable[[], float], request_id: str, pause_s: float, expected: Entry | None
) -> AsyncIterator[bool]:
    """See Ledger.lease."""
    claim = _Claim(write, clock, request_id)
    try:
        is_claimed = await claim.acquire(expected)
    except LedgerBusy:  # by a process that was stopped, perhaps: the recorded state has to do
        is_claimed = False
    if not is_claimed:
        yield False
        return
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(claim.renew)
            try:
                yield True
            except Exception as error:  # noqa: BLE001 - raised below: the task group would wrap it
                failure = error
            tasks.cancel_scope.cancel()
    except BaseException:  # cancelled: the question may be on its way
        with anyio.move_on_after(END_TIMEOUT_S, shield=True), suppress(FileProblem):
            await claim.release(pause_s, is_failure=False)
        raise
    if failure is not None:
        retry_after_s = failure.retry_after_s if isinstance(failure, SoraError) else None
        with suppress(FileProblem):
            await claim.release(max(pause_s, retry_after_s or 0), is_failure=True)
        raise failure


class _Claim:
    """One process's claim on a row, stored as `not_before`; it ends when a poll is recorded, or with `release`."""

    def __init__(self, write: Write, clock: Callable[[], float], request_id: str) -> None:
        self._write = write
        self._clock = clock
        self._request_id = request_id
        self._expires_at = 0.0

    async def acquire(self, expected: Entry | None) -> bool:
        """Claim the row, and return whether that succeeded. See Ledger.lease."""

        def work(db: Database) -> bool:
            now = self._clock()
            entry = get_by_request_if_unlocked(
                db, self._request_id
            )  # whichever process locked it polls it, or has just done so
            if entry is None or not entry.may_be_polled(now):
                return False
            if expected is not None and entry.polled_at != expected.polled_at:
                return False
            self._expires_at = now + LEASE_S
            self._set(db, now, self._expires_at)
            return True

        return bool(await self._write(work))

    async def renew(self) -> None:
        """Renew the claim until cancelled."""

        def work(db: Database) -> None:
            if self._is_valid(db):
                self._expires_at = self._clock() + LEASE_S
                self._set(db, self._clock(), self._expires_at)

        while True:
            await anyio.sleep(LEASE_S / 3)
            with suppress(FileProblem):  # what goes on under the claim goes on without it
                await self._write(work)

    async def release(self, pause_s: float, *, is_failure: bool) -> None:
        """End the claim without a result; the next one waits for `pause_s` seconds (MAX_BACKOFF_S at most)."""

        def work(db: Database) -> None:
            now = self._clock()
            if self._is_valid(db):
                self._set(db, now, now + min(pause_s, MAX_BACKOFF_S))
            db.execute(
                "UPDATE videos SET misses = misses + ? WHERE request_id = ?", [int(is_failure), self._request_id]
            )

        await self._write(work)

    def _is_valid(self, db: Database) -> bool:
        return get_by_request(db, self._request_id).not_before == self._expires_at

    def _set(self, db: Database, polled_at: float, not_before: float) -> None:
        sql = "UPDATE videos SET looked_at = ?, not_before = ? WHERE request_id = ?"
        db.execute(sql, (polled_at, not_before, self._request_id))
