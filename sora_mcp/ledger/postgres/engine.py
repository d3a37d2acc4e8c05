"""The ledger, kept in PostgreSQL: how its methods reach the database, and what every one of them looks after."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio

from sora_mcp.core.records import Entry, Intent
from sora_mcp.core.spending import NO_POLICY, SpendingPolicy
from sora_mcp.ledger.postgres import migrations
from sora_mcp.ledger.postgres.connection import Connection
from sora_mcp.ledger.postgres.connections import AT_ONCE, CommitUnknown, Connections, Job
from sora_mcp.ledger.postgres.presence import ALIVE, IS_HELD, LIVING_SENDERS, Presence
from sora_mcp.ledger.postgres.trouble import TakenBack, Unavailable
from sora_mcp.ledger.protocol import Listener
from sora_mcp.ledger.sql import rows
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.following import Following
from sora_mcp.ledger.sql.paying import Paying
from sora_mcp.ledger.sql.reading import Reading
from sora_mcp.ledger.sql.transactions import BRIEFLY_S, BUSY_S, Held

T = TypeVar("T")

_LATE_S = 8.0
"""Seconds beyond its patience after which a transaction is given up: PostgreSQL, or the way to it, stands still."""
_IN_TURN_S = 12.0
"""Seconds that an intent waits for those before it."""
_MAY_STILL_COMMIT_S = 300.0
"""Seconds within which a commit whose connection was lost may still be done: it may wait for a copy."""
_DEAD_SENDERS = f"SELECT request_id FROM videos WHERE state = 'sending' AND NOT {ALIVE}"  # noqa: S608 - our own text
_PLACE = (
    "SELECT (SELECT oldest FROM ledger_schema),"
    " EXISTS (SELECT 1 FROM history WHERE number = ? AND request_id = ?),"
    " (SELECT system_identifier FROM pg_control_system())::text || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),"
    " pg_current_wal_flush_lsn() < ?::pg_lsn, pg_current_wal_flush_lsn()::text,"
    " current_setting('synchronous_standby_names') != ''"
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where this server last wrote, so that it sees when the database was taken back behind that."""

    history: tuple[int, str]
    """Number and request id of the newest change of a state that was seen."""
    timeline: str | None
    """The database's identity, and the timeline that it wrote: a copy that takes over begins another."""
    written: str
    """A place in its log (LSN) that was on disk."""
    is_copied: bool = False
    """Every commit was on a copy before it was told: one that takes over lacks nothing."""


class PostgresLedger(Paying, Following, Reading):
    """The ledger in the database at `url`, whose schema is made at first use. It keeps what `Ledger` promises.

    `clock`: unix seconds; the database's own where there is none. `steps`: those of the schema.
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] | None = None,
        *,
        steps: tuple[migrations.Step, ...] = migrations.STEPS,
    ) -> None:
        self._connections = Connections(url, self._migrate)
        super().__init__(clock or self._connections.now)
        self._steps = steps
        self._threads = anyio.CapacityLimiter(AT_ONCE)
        self._in_background = anyio.CapacityLimiter(AT_ONCE // 2)
        self._beginning = anyio.Semaphore(1)
        self._presence = Presence(self._connections.connect)
        self._place = _Place((0, ""), None, "0/0")
        self._never_sent: dict[str, float] = {}
        """Requests that may stand as *sending*, though it was told that nothing was submitted, and since when."""

    def close(self) -> None:
        self._presence.end(lambda writer: self._job(lambda db: db.tell(writer), to_write=True, patience_s=0.1).run())
        self._presence = Presence(self._connections.connect)
        self._connections.close()

    def owns(self, path: Path | int) -> bool:  # noqa: ARG002 - it has no files here
        return False

    def exists(self) -> bool:
        return True

    async def begin(self, intent: Intent, policy: SpendingPolicy = NO_POLICY) -> tuple[Entry, bool]:
        # One at a time: where this server is stopped, one transaction of its keeps the others waiting, not eight.
        with anyio.move_on_after(_IN_TURN_S) as waiting:
            await self._beginning.acquire()
        if waiting.cancelled_caught:
            raise Unavailable("it is busy, or was away until now")
        try:
            return await super().begin(intent, policy)
        except CommitUnknown as error:
            self._was_not_sent(error.done)
            raise
        finally:
            self._beginning.release()

    def listen(self, request_id: str) -> AbstractContextManager[Listener]:
        return self._presence.listen(request_id)

    async def _write(self, work: Callable[[Database], T], patience_s: float = BUSY_S) -> T:
        waiting = dict(self._never_sent)

        def write(db: Database) -> T:
            for request_id in waiting:
                self._take_back(db, request_id)
            return work(db)

        done = await self._run(write, to_write=True, patience_s=patience_s)
        for request_id, since in waiting.items():
            if time.monotonic() - since > _MAY_STILL_COMMIT_S:
                self._never_sent.pop(request_id, None)
        return done

    async def _write_in_background(self, work: Callable[[Database], T], patience_s: float = BUSY_S) -> T:
        async with self._in_background:
            return await self._write(work, patience_s)

    async def _glance(self, work: Callable[[Database], T], key: Hashable = None) -> T:  # noqa: ARG002 - others write
        return await self._read(work)

    async def _read(self, work: Callable[[Database], T]) -> T:
        def read(db: Database) -> list[T]:
            return [] if self._abandoned(db) else [work(db)]

        if done := await self._run(read, to_write=False):
            return done[0]
        with suppress(Held):  # they stay as they are until it can be written
            await self._write(self._bury_the_abandoned, BRIEFLY_S)
        return await self._run(work, to_write=False)

    async def _run(self, work: Callable[[Database], T], *, to_write: bool, patience_s: float = BUSY_S) -> T:
        job = self._job(work, to_write=to_write, patience_s=patience_s)
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(patience_s + _LATE_S):
                done = await anyio.to_thread.run_sync(job.run, limiter=self._threads, abandon_on_cancel=True)
        except TimeoutError:
            job.abandon()
            raise Unavailable("it takes too long to answer") from None
        return done

    def _job(self, work: Callable[[Database], T], *, to_write: bool, patience_s: float) -> Job[T]:
        give_up_at = time.monotonic() + max(patience_s, BUSY_S / 2)
        return Job(self._connections, work, to_write, patience_s, give_up_at, self._was_not_sent)

    # --- inside a transaction ---------------------------------------------------------------------

    def _check_place(self, db: Database) -> None:
        known = self._place
        oldest, is_there, timeline, is_behind, written, is_copied = db.execute(
            _PLACE, [*known.history, known.written]
        ).fetchone()
        if oldest > len(self._steps):
            raise migrations.NewerRelease
        has_moved = known.timeline not in {None, timeline}
        is_lost = not self._has_newest(db) or (known.history[0] and not is_there)
        if is_lost or (has_moved and not known.is_copied) or (is_behind and not has_moved):
            raise TakenBack
        newest = db.execute("SELECT number, request_id FROM history ORDER BY number DESC LIMIT 1").fetchone()
        self._place = _Place(newest or (0, ""), timeline, written, is_copied)

    def _check_structure(self, db: Database) -> None:
        db.execute("SELECT 1")

    def _hold_writer(self, db: Database) -> str:
        for _ in range(2):
            writer = self._presence.writer()
            if writer is None:
                break
            if db.execute(f"SELECT {IS_HELD.format(key='(?::bit(64)::bigint)')}", [f"x{writer}"]).fetchone()[0]:
                return writer
            self._presence.lost(writer)
        raise Unavailable("it has no connection left for this server's lock")

    def _abandoned(self, db: Database) -> list[str]:
        return [row[0] for row in db.execute(_DEAD_SENDERS)]

    def _was_not_sent(self, done: object) -> None:
        """Keep in mind what a `begin` returned to nobody."""
        match done:
            case (Entry() as entry, True):
                self._never_sent[entry.request_id] = time.monotonic()

    def _take_back(self, db: Database, request_id: str) -> None:
        if db.execute("SELECT 1 FROM videos WHERE request_id = ?", [request_id]).fetchone():
            reason = "it was never sent: the connection to the ledger was lost first"
            self._changes(db).move(rows.of_request(db, request_id), "rejected", reason=reason)

    def _migrate(self, connection: Connection) -> None:
        migrations.migrate(connection, self._steps, LIVING_SENDERS)
