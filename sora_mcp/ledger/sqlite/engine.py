"""The ledger, kept in SQLite: how its methods reach the file, and what every one of them looks after."""

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
from sora_mcp.ledger.sql.transactions import BRIEFLY_S, BUSY_S, Footing, Held
from sora_mcp.ledger.sqlite import migrations
from sora_mcp.ledger.sqlite.connection import Connection
from sora_mcp.ledger.sqlite.file import File, held
from sora_mcp.ledger.sqlite.integrity import TAKEN_AWAY, Damaged, Malformed, identity
from sora_mcp.ledger.sqlite.liveness import Writer

T = TypeVar("T")


class _Deaf:
    """Has to look."""

    async def heard(self, seconds: float) -> bool:
        await anyio.sleep(seconds)
        return True


class SqliteLedger(Paying, Following, Reading):
    """The ledger in the file at `path`; opened, and made, at first use. It keeps what `Ledger` promises.

    Writes and long reads run in a worker thread.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._file = File(path, self._nobody_sends, self._no_other_sends)
        self._one_at_a_time = anyio.CapacityLimiter(1)
        self._in_background = anyio.CapacityLimiter(1)
        self._writer = Writer(path.parent / "writers")

    def close(self) -> None:
        mine = sending = self._writer.ids
        if mine:
            with suppress(FileProblem):
                sending = {writer for _, writer, _ in self._file.transact("BEGIN", rows.sending) if writer is not None}
        self._writer.release(kept=mine & sending)
        self._file.close()

    def owns(self, path: Path | int) -> bool:
        # To open one of them and close it again gives back the locks that this process holds on it (POSIX).
        asked = identity(path)
        return asked is not None and asked in map(identity, (*self._file.paths, *self._writer.paths()))

    def exists(self) -> bool:
        return self._file.exists()

    def listen(self, request_id: str) -> nullcontext[Listener]:  # noqa: ARG002 - a file tells nobody
        return nullcontext(_Deaf())

    async def settle(
        self, account: Account, request_id: str, task_id: str | None, *, given_up: AbandonedTask | None = None
    ) -> Entry | None:
        await self._read(self._check_mark)
        return await super().settle(account, request_id, task_id, given_up=given_up)

    async def tell_others(self, message: str) -> None:
        """As `Ledger` says: a file tells nobody."""

    def hear(self, listener: Callable[[str], None]) -> None:
        """Likewise."""

    async def _write(self, work: Callable[[Database], T], patience_s: float = BUSY_S) -> T:
        write = partial(self._file.transact, "BEGIN IMMEDIATE", work, patience_s)
        return await anyio.to_thread.run_sync(write, limiter=self._one_at_a_time)

    async def _write_in_background(self, work: Callable[[Database], T], patience_s: float = BUSY_S) -> T:
        async with self._in_background:  # of all such writes one at most stands before those of paid calls
            return await self._write(work, patience_s)

    async def _glance(self, work: Callable[[Database], T], key: Hashable = None) -> T:
        # In the event loop's own thread: in WAL it waits for nobody, and handing it to a worker costs eight times as
        # much. Where anything is in the way, a worker reads.
        with suppress(sqlite3.Error, OSError):
            return self._file.glance(work, key)
        return await self._read(work)

    async def _read(self, work: Callable[[Database], T]) -> T:
        return await anyio.to_thread.run_sync(self._look, work, limiter=self._one_at_a_time)

    def _look(self, work: Callable[[Database], T]) -> T:
        if self._file.transact("BEGIN", self._abandoned):
            with suppress(Held):  # they stay as they are until it can be written
                self._file.transact("BEGIN IMMEDIATE", self._bury_the_abandoned, BRIEFLY_S)
        return self._file.transact("BEGIN", work)

    def _busy(self) -> FileProblem:
        return held(self._file.path)

    def _footing(self, db: Database) -> Callable[[], Footing]:
        self._check_place(db)
        abandoned = self._abandoned(db)
        return lambda: Footing(abandoned, self._writer.hold)

    def _deciding(self, db: Database, intent: Intent, policy: SpendingPolicy) -> Callable[[], Entry | None]:
        self._check_mark(db)
        return super()._deciding(db, intent, policy)

    def _check_place(self, db: Database) -> None:
        if not migrations.is_current(db):
            raise FileProblem(
                "A newer release has taken over the ledger while this one was running.",
                AskUser((Restart(),)),
            )
        of_newest = "SELECT 1 FROM videos WHERE number = ? AND request_id = ?"
        if self._newest is not None and db.execute(of_newest, self._newest).fetchone() is None:
            raise Damaged(self._file.path, TAKEN_AWAY)  # an older copy was put in its place, in the same file
        self._check_mark(db)

    def _check_mark(self, db: Database) -> None:
        if migrations.is_copied(db):
            from sora_mcp.ledger.sqlite.copied import Copied  # noqa: PLC0415 - of few ledgers

            raise Copied(self._file.path, db)

    def _check_structure(self, db: Database) -> None:
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise Malformed

    def _abandoned(self, db: Database) -> list[str]:
        return [request_id for request_id, is_gone in self._sending(db) if is_gone]

    def _nobody_sends(self, db: Connection) -> bool:
        return all(is_gone for _, is_gone in self._sending(db))

    def _no_other_sends(self, db: Connection) -> bool:
        # Whether others live a worker finds out; what this process sends is looked after by itself.
        return {writer for _, writer, _ in rows.sending(db)} <= self._writer.ids

    def _sending(self, db: Database) -> Iterator[tuple[str, bool]]:
        """The rows in *sending*, and whether their writers are gone."""
        now = self._clock()
        for request_id, writer, since in rows.sending(db):
            yield request_id, self._writer.is_gone(writer, now - since)
