"""The PostgreSQL ledger: how its methods reach the database, and the checks that all of them share."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import psycopg
from msgspec import Struct

from sora_mcp.core.accounts import Account
from sora_mcp.core.errors import FileProblem
from sora_mcp.core.records import Entry, Intent
from sora_mcp.core.spending import SpendingPolicy
from sora_mcp.ledger.postgres import finding, migrations
from sora_mcp.ledger.postgres.connection import SERVERS_CHANNEL, Connection, Transaction
from sora_mcp.ledger.postgres.connections import MAX_CONCURRENT, CommitUnknown, Connections, Job
from sora_mcp.ledger.postgres.errors import NO_PERMISSION, Altered, Reverted, Unavailable, is_connection_lost
from sora_mcp.ledger.postgres.presence import ALIVE, DEAD_SENDERS, IS_LOCKED, LIVING_SENDERS, Presence
from sora_mcp.ledger.protocol import MAX_MESSAGE_BYTES, Listener
from sora_mcp.ledger.sql import rows
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.following import Following
from sora_mcp.ledger.sql.paying import Paying
from sora_mcp.ledger.sql.reading import Reading
from sora_mcp.ledger.sql.transactions import BUSY_TIMEOUT_S, SHORT_TIMEOUT_S, LedgerBusy, Preconditions

T = TypeVar("T")
logger = logging.getLogger(__name__)

_GRACE_S = 8.0
"""Seconds beyond its time-out after which a transaction is abandoned: PostgreSQL or the network hangs."""
_COMMIT_TIMEOUT_S = 300.0
"""Seconds within which a commit whose connection was lost may still succeed: it may wait for a copy."""
_MAX_CONFIRMATION_AGE_S = 2.0
"""Seconds for which the answer that a request is still being sent counts: it may have been held up on its way here, or
this server may have been stopped."""
_STANDBY_SQLSTATE = "55000"
"""SQLSTATE of statements that a copy refuses while it follows another."""
_LOG_HIDDEN_WARNING = (
    "the database of the ledger does not show its user where its log stands: that it was restored from a backup is "
    "noticed only by requests that are missing"
)
_IS_WHOLE = (
    "(SELECT count(*) FROM pg_trigger WHERE tgrelid = 'videos'::regclass AND tgenabled IN ('O', 'A')"
    " AND tgname IN ('videos_added', 'videos_changed', 'videos_removed')) = 3"
    " AND (SELECT count(*) FROM pg_index WHERE indisunique AND indisvalid AND indrelid IN"
    " ('videos'::regclass, 'generations'::regclass, 'used_answers'::regclass)) >= 4"
    " AND (SELECT count(*) FROM pg_class WHERE relpersistence != 'p' AND oid IN"
    " ('videos'::regclass, 'history'::regclass, 'video_counts'::regclass)) = 0"
)
"""Whether the triggers and unique indexes exist that caps and one-time answers rely on: a restore creates them last.
And whether a crash leaves the tables as they are: it empties those that are unlogged."""
_TABLE = "(SELECT oid FROM pg_database WHERE datname = current_database()) || '.' || 'videos'::regclass::oid"
"""The identity of the table: a dump is restored into another one."""
_PRECONDITIONS = (
    f"SELECT CASE WHEN {_IS_WHOLE} THEN (SELECT oldest FROM ledger_schema) END,"  # noqa: S608 - our own text
    f" ARRAY({DEAD_SENDERS}), {IS_LOCKED.format(key='?::bit(64)::bigint')},"
    " (EXISTS (SELECT 1 FROM videos WHERE number = ? AND request_id = ?) OR ? = 0)"
    " AND (EXISTS (SELECT 1 FROM history WHERE number = ? AND request_id = ?) OR ? = 0)"
    " AND (EXISTS (SELECT 1 FROM videos WHERE request_id = ?) OR ? = '')"
    f" AND ? IN ('', {_TABLE}), {_TABLE},"
    " newest.number, newest.request_id, has_table_privilege('videos', 'UPDATE'), "
)
_LOG = (
    "(SELECT system_identifier FROM pg_control_system())::text || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),"
    " pg_current_wal_flush_lsn() < ?::pg_lsn, pg_current_wal_flush_lsn()::text,"
    " current_setting('synchronous_standby_names') != ''"
)
_NEWEST_JOIN = (
    " FROM (VALUES (1)) AS one"
    " LEFT JOIN (SELECT number, request_id FROM history ORDER BY number DESC LIMIT 1) AS newest ON TRUE"
)
_PRECONDITIONS_BY_LOG = f"{_PRECONDITIONS}{_LOG}{_NEWEST_JOIN}"
_PRECONDITIONS_WITHOUT_LOG = f"{_PRECONDITIONS}?::text, FALSE, ?::text, FALSE{_NEWEST_JOIN}"
_IS_SENDING = f"SELECT 1 FROM videos WHERE request_id = ? AND state = 'sending' AND {ALIVE}"  # noqa: S608 - our own text
_NO_ROW = (0, "")
"""The number and request id of no row."""
_NO_WRITER = "0" * 16
"""The id of no writer."""


class _LockLost(Unavailable):
    """This server has lost its lock: nothing was written, and it may have another one in a moment."""


class _Position(Struct, frozen=True):
    """Where this server last wrote, so that it notices if the database was restored to an earlier state."""

    table: str
    """The table's identity, or an empty text before the first look."""
    history: tuple[int, str]
    """Number and request id of the newest change of a state that was read."""
    timeline: str | None
    """The database's identity and timeline: a copy that takes over begins another one."""
    written: str
    """A position in its log (LSN) that was on disk."""
    is_copied: bool = False
    """Every commit was on a copy before it was reported: one that takes over lacks nothing."""


class PostgresLedger(Paying, Following, Reading):
    """The ledger in the database at `url`, whose schema is created at first use. It implements `Ledger`.

    `clock`: unix seconds; the database's own by default. `steps`: those of the schema. `folder`: the videos' folder;
    paths in it are recorded relative to it.
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] | None = None,
        *,
        steps: tuple[migrations.Step, ...] = migrations.STEPS,
        folder: Path | None = None,
    ) -> None:
        self._connections = Connections(url, self._migrate, folder or Path())
        super().__init__(clock or self._connections.now)
        self._steps = steps
        self._threads = anyio.CapacityLimiter(MAX_CONCURRENT)
        self._background_limiter = anyio.CapacityLimiter(MAX_CONCURRENT // 2)
        self._presence = Presence(self._connections.connect, self._reject_unsent_in_background)
        self._position = _Position("", _NO_ROW, None, "0/0")
        self._log_is_shown = True
        self._unsent: dict[str, float] = {}
        """Requests that may be recorded as *sending* although their callers got an error, and since when."""

    def close(self) -> None:
        self._presence.close()
        self._presence = Presence(self._connections.connect, self._reject_unsent_in_background)
        self._connections.close()

    def owns(self, path: Path | int) -> bool:  # noqa: ARG002 - it has no local files
        return False

    def exists(self) -> bool:
        return True

    async def _begin_in_turn(self, intent: Intent, policy: SpendingPolicy) -> tuple[Entry, bool]:
        try:
            with suppress(_LockLost):
                return await self._begin_with_lock(intent, policy)
            return await self._begin_with_lock(intent, policy)
        except CommitUnknown as error:
            self._remember_unsent(error.result)
            raise

    async def _begin_with_lock(self, intent: Intent, policy: SpendingPolicy) -> tuple[Entry, bool]:
        if self._presence.writer is None:
            await anyio.to_thread.run_sync(self._presence.wait_for_lock, limiter=self._threads)
        return await super()._begin_in_turn(intent, policy)

    def _busy_error(self) -> Unavailable:
        return Unavailable("it is busy, or was away until now")

    async def find(self, account: Account, video_id: str) -> Entry | None:
        entry = await self._run(lambda db: finding.find(db, account, video_id), to_write=False, is_one_statement=True)
        return entry or await super().find(account, video_id)

    async def is_sending(self, request_id: str) -> bool:
        def read(db: Database) -> bool:
            return db.execute(_IS_SENDING, [request_id]).fetchone() is not None

        with suppress(FileProblem):
            return await self._run(read, to_write=False, is_one_statement=True)
        return False

    async def may_send(self, entry: Entry) -> bool:
        # The connection that shows that this server lives may be lost at any moment: others can settle the entry then.
        def read(db: Database) -> tuple[bool, float]:
            asked_at = time.monotonic()
            return db.execute(_IS_SENDING, [entry.request_id]).fetchone() is not None, asked_at

        with suppress(FileProblem):
            is_sending, asked_at = await self._run(read, to_write=False, is_one_statement=True)
            return is_sending and time.monotonic() - asked_at < _MAX_CONFIRMATION_AGE_S
        return False

    def listen(self, request_id: str) -> AbstractContextManager[Listener]:
        return self._presence.listen(request_id)

    async def broadcast(self, message: str) -> None:
        if len(message.encode()) <= MAX_MESSAGE_BYTES:
            await self._write(lambda db: db.execute(f"SELECT pg_notify('{SERVERS_CHANNEL}', ?)", [message]))

    def on_broadcast(self, listener: Callable[[str], None]) -> None:
        self._presence.on_broadcast(listener)

    async def _write(self, work: Callable[[Database], T], timeout_s: float = BUSY_TIMEOUT_S) -> T:
        with anyio.CancelScope(shield=True):
            result = await self._write_with_timeout(work, timeout_s)
        return result  # noqa: RET504 - to mypy a scope may swallow what is raised

    async def _write_in_background(self, work: Callable[[Database], T], timeout_s: float = BUSY_TIMEOUT_S) -> T:
        async with self._background_limiter:
            return await self._write_with_timeout(work, timeout_s)

    async def _write_with_timeout(self, work: Callable[[Database], T], timeout_s: float) -> T:
        if self._unsent:
            await self._run(self._reject_unsent, to_write=True, timeout_s=timeout_s)
        return await self._run(work, to_write=True, timeout_s=timeout_s)

    async def _quick_read(self, work: Callable[[Database], T], key: Hashable = None) -> T:  # noqa: ARG002 - others write
        return await self._read(work)

    async def _read(self, work: Callable[[Database], T]) -> T:
        def read(db: Database) -> list[T]:
            dead = db.execute(DEAD_SENDERS)
            result = work(db)
            return [] if dead.fetchall() else [result]

        if result := await self._run(read, to_write=False):
            return result[0]
        with suppress(LedgerBusy):  # they stay as they are until it can be written
            await self._write_with_timeout(self._mark_abandoned_unknown, SHORT_TIMEOUT_S)
        return await self._run(work, to_write=False)

    async def _run(
        self,
        work: Callable[[Database], T],
        *,
        to_write: bool,
        timeout_s: float = BUSY_TIMEOUT_S,
        is_one_statement: bool = False,
    ) -> T:
        job = self._job(work, to_write=to_write, timeout_s=timeout_s, is_one_statement=is_one_statement)
        try:
            with anyio.fail_after(timeout_s + _GRACE_S):
                result = await anyio.to_thread.run_sync(job.run, limiter=self._threads, abandon_on_cancel=True)
        except TimeoutError:
            job.abandon()
            raise Unavailable("it takes too long to answer") from None
        except anyio.get_cancelled_exc_class():
            job.abandon()  # a caller with a deadline does not wait for a PostgreSQL that hangs
            raise
        return result

    def _job(
        self, work: Callable[[Database], T], *, to_write: bool, timeout_s: float, is_one_statement: bool = False
    ) -> Job[T]:
        deadline = time.monotonic() + max(timeout_s, BUSY_TIMEOUT_S / 2)
        return Job(self._connections, work, to_write, timeout_s, deadline, self._remember_unsent, is_one_statement)

    # --- inside a transaction ---------------------------------------------------------------------

    def _begin(self, db: Database, intent: Intent, writer: str) -> Entry:
        entry = super()._begin(db, intent, writer)
        self._presence.add_known(entry.request_id)  # before it is announced
        return entry

    def _query_preconditions(self, db: Database) -> Callable[[], Preconditions]:
        position, request, writer, newest = (
            self._position,
            self._presence.newest_request,
            self._presence.writer,
            self._newest or _NO_ROW,
        )
        values = [
            f"x{writer or _NO_WRITER}",
            *newest,
            newest[0],
            *position.history,
            position.history[0],
            request,
            request,
            position.table,
        ]
        values += [position.written] if self._log_is_shown else [position.timeline, position.written]
        cursor = db.execute(_PRECONDITIONS_BY_LOG if self._log_is_shown else _PRECONDITIONS_WITHOUT_LOG, values)

        def read() -> Preconditions:
            oldest, abandoned, is_locked, has_all, table, number, changed, may_record, *log = cursor.fetchone()
            timeline, is_behind, written, is_copied = log
            if oldest is None:
                raise Altered
            if oldest > len(self._steps):
                raise migrations.NewerRelease
            has_moved = position.timeline not in {None, timeline}
            if not has_all or (has_moved and not position.is_copied) or (is_behind and not has_moved):
                raise Reverted
            self._position = _Position(table, (number or 0, changed or ""), timeline, written, is_copied)
            return Preconditions(
                abandoned, partial(self._locked_writer, writer, is_locked=is_locked, may_record=may_record)
            )

        return read

    def _locked_writer(self, writer: str | None, *, is_locked: bool, may_record: bool) -> str:
        if not may_record:  # the gateway's answer could not be recorded
            raise Unavailable(NO_PERMISSION)
        if writer is not None and is_locked:
            return writer
        if writer is not None:
            self._presence.report_lost(writer)
        raise _LockLost("it has no free connection for this server's lock, or has just lost it")

    def _check_structure(self, db: Database) -> None:
        db.execute("SELECT 1")

    def _abandoned(self, db: Database) -> list[str]:
        return [row[0] for row in db.execute(DEAD_SENDERS)]

    def _remember_unsent(self, result: object) -> None:
        """Remember the entry of a `begin` whose caller got an error instead."""
        match result:
            case (Entry() as entry, True):
                self._unsent[entry.request_id] = time.monotonic()

    def _reject_unsent(self, db: Database) -> None:
        reason = "it was never sent: the connection to the ledger was lost first"
        for request_id, since in dict(self._unsent).items():
            row = db.execute("SELECT state FROM videos WHERE request_id = ?", [request_id]).fetchone()
            if row is not None and row[0] in {"sending", "unknown"}:
                self._changes(db).move(rows.get_by_request(db, request_id), "rejected", reason=reason)
            elif row is not None or time.monotonic() - since > _COMMIT_TIMEOUT_S:
                self._unsent.pop(request_id, None)

    def _reject_unsent_in_background(self) -> None:
        if not self._unsent:
            return
        job = self._job(self._reject_unsent, to_write=True, timeout_s=BUSY_TIMEOUT_S)
        late = threading.Timer(BUSY_TIMEOUT_S + _GRACE_S, job.abandon)
        late.daemon = True
        late.start()
        with suppress(FileProblem):
            job.run()
        late.cancel()

    def _migrate(self, connection: Connection) -> None:
        migrations.migrate(connection, self._steps, LIVING_SENDERS)
        db = Transaction(connection, to_write=False)
        try:
            db.execute(f"SELECT {_LOG}", ["0/0"])
        except psycopg.Error as error:
            if error.sqlstate == _STANDBY_SQLSTATE:
                return
            if is_connection_lost(error):
                raise
            self._log_is_shown = False
            logger.warning(_LOG_HIDDEN_WARNING)
        self._query_preconditions(db)()
        self._presence.start()
