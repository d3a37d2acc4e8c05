"""The SQLite ledger: how its methods reach the file, and the checks that all of them share."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from sora_mcp.core.accounts import Account
from sora_mcp.core.advice import AskUser, Restart
from sora_mcp.core.errors import FileProblem
from sora_mcp.core.records import AbandonedTask, Entry, Intent
from sora_mcp.core.spending import SpendingPolicy
from sora_mcp.ledger.protocol import Listener
from sora_mcp.ledger.sql import rows
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.following import Following
from sora_mcp.ledger.sql.paying import Paying
from sora_mcp.ledger.sql.reading import Reading
from sora_mcp.ledger.sql.transactions import BUSY_TIMEOUT_S, SHORT_TIMEOUT_S, LedgerBusy, Preconditions
from sora_mcp.ledger.sqlite import migrations
from sora_mcp.ledger.sqlite.connection import Connection
from sora_mcp.ledger.sqlite.file import File, busy_error
from sora_mcp.ledger.sqlite.integrity import REMOVED_OR_REPLACED, Damaged, Malformed, identity
from sora_mcp.ledger.sqlite.liveness import Writer

T = TypeVar("T")

_MAX_UNCHECKED_AGE_S = 1.0
"""The age of an entry, in seconds, beyond which it is read again before its POST."""


class _PollingListener:
    """Knows no changes, so its caller has to poll."""

    async def wait(self, seconds: float) -> bool:
        await anyio.sleep(seconds)
        return True


class SqliteLedger(Paying, Following, Reading):
    """The ledger in the file at `path`, opened or created at first use. It implements `Ledger`.

    Writes and long reads run in a worker thread.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._file = File(path, self._has_no_senders, self._has_no_other_senders)
        self._limiter = anyio.CapacityLimiter(1)
        self._background_limiter = anyio.CapacityLimiter(1)
        self._writer = Writer(path.parent / "writers")

    def close(self) -> None:
        own_ids = sending = self._writer.ids
        if own_ids:
            with suppress(FileProblem):
                sending = {
                    writer for _, writer, _ in self._file.transact("BEGIN", rows.find_sending) if writer is not None
                }
        self._writer.release(still_sending=own_ids & sending)
        self._file.close()

    def owns(self, path: Path | int) -> bool:
        # Opening one of them and closing it again would release the locks that this process holds on it (POSIX).
        file = identity(path)
        return file is not None and file in map(identity, (*self._file.paths, *self._writer.paths()))

    def exists(self) -> bool:
        return self._file.exists()

    def listen(self, request_id: str) -> nullcontext[Listener]:  # noqa: ARG002 - a file announces no changes
        return nullcontext(_PollingListener())

    async def may_send(self, entry: Entry) -> bool:
        # A living process cannot lose the lock that shows that it lives, so that nobody settles the entry; but while a
        # slow disk kept the answer back, the file may have been replaced.
        return self.age(entry) < _MAX_UNCHECKED_AGE_S or await self.is_sending(entry.request_id)

    async def settle(
        self, account: Account, request_id: str, task_id: str | None, *, given_up: AbandonedTask | None = None
    ) -> Entry | None:
        await self._read(self._check_not_copied)
        return await super().settle(account, request_id, task_id, given_up=given_up)

    async def broadcast(self, message: str) -> None:
        """Do nothing: a file has no other servers."""

    def on_broadcast(self, listener: Callable[[str], None]) -> None:
        """Do nothing: a file has no other servers."""

    async def _write(self, work: Callable[[Database], T], timeout_s: float = BUSY_TIMEOUT_S) -> T:
        write = partial(self._file.transact, "BEGIN IMMEDIATE", work, timeout_s)
        return await anyio.to_thread.run_sync(write, limiter=self._limiter)

    async def _write_in_background(self, work: Callable[[Database], T], timeout_s: float = BUSY_TIMEOUT_S) -> T:
        async with self._background_limiter:  # at most one of these writes is queued before those of paid calls
            return await self._write(work, timeout_s)

    async def _quick_read(self, work: Callable[[Database], T], key: Hashable = None) -> T:
        # In the event loop's own thread: in WAL it never blocks, and handing it to a worker costs eight times as much.
        # If anything is in the way, a worker reads.
        with suppress(sqlite3.Error, OSError):
            return self._file.quick_read(work, key)
        return await self._read(work)

    async def _read(self, work: Callable[[Database], T]) -> T:
        return await anyio.to_thread.run_sync(self._read_blocking, work, limiter=self._limiter)

    def _read_blocking(self, work: Callable[[Database], T]) -> T:
        if self._file.transact("BEGIN", self._abandoned):
            with suppress(LedgerBusy):  # they stay as they are until it can be written
                self._file.transact("BEGIN IMMEDIATE", self._mark_abandoned_unknown, SHORT_TIMEOUT_S)
        return self._file.transact("BEGIN", work)

    def _busy_error(self) -> FileProblem:
        return busy_error(self._file.path)

    def _query_preconditions(self, db: Database) -> Callable[[], Preconditions]:
        self._check_can_begin(db)
        abandoned = self._abandoned(db)
        return lambda: Preconditions(abandoned, self._writer.acquire)

    def _query_duplicate(self, db: Database, intent: Intent, policy: SpendingPolicy) -> Callable[[], Entry | None]:
        self._check_not_copied(db)
        return super()._query_duplicate(db, intent, policy)

    def _check_can_begin(self, db: Database) -> None:
        if not migrations.is_current(db):
            raise FileProblem(
                "A newer release has taken over the ledger while this one was running.",
                AskUser((Restart(),)),
            )
        newest_sql = "SELECT 1 FROM videos WHERE number = ? AND request_id = ?"
        if self._newest is not None and db.execute(newest_sql, self._newest).fetchone() is None:
            raise Damaged(self._file.path, REMOVED_OR_REPLACED)  # an older copy was written into the same file
        self._check_not_copied(db)

    def _check_not_copied(self, db: Database) -> None:
        if migrations.is_copied(db):
            from sora_mcp.ledger.sqlite.copy_mark import Copied  # noqa: PLC0415 - for few ledgers

            raise Copied(self._file.path, db)

    def _check_structure(self, db: Database) -> None:
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise Malformed

    def _abandoned(self, db: Database) -> list[str]:
        return [request_id for request_id, has_ended in self._sending(db) if has_ended]

    def _has_no_senders(self, db: Connection) -> bool:
        return all(has_ended for _, has_ended in self._sending(db))

    def _has_no_other_senders(self, db: Connection) -> bool:
        # A worker finds out whether others live; what this process sends it handles itself.
        return {writer for _, writer, _ in rows.find_sending(db)} <= self._writer.ids

    def _sending(self, db: Database) -> Iterator[tuple[str, bool]]:
        """Return the rows in *sending*, and whether their writers have ended."""
        now = self._clock()
        for request_id, writer, since in rows.find_sending(db):
            yield request_id, self._writer.has_ended(writer, now - since)
