"""Connections to PostgreSQL, and transactions on them: each ends within a known time, whatever happens."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg
import psycopg_pool
from psycopg.conninfo import make_conninfo

from sora_mcp.ledger.postgres.address import parse_address
from sora_mcp.ledger.postgres.connection import CLOCK, Connection, Transaction, abort_after
from sora_mcp.ledger.postgres.errors import Unavailable, Unsuitable, is_connection_lost, is_transient, problem_from
from sora_mcp.ledger.postgres.migrations import MIGRATION_LOCK

T = TypeVar("T")

MAX_CONCURRENT = 8
"""Transactions of one server at a time."""
_FIRST_ANSWER_TIMEOUT_S = 5.0
"""Seconds within which a new connection has to answer for the first time."""
_DEFAULT_PARAMETERS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "sora ledger",
}
"""Connection parameters unless the address sets them: a host that is down is noticed within half a minute."""
_SESSION_SETTINGS = (
    "SET idle_in_transaction_session_timeout = '5s'; SET statement_timeout = '15s';"  # a server may be stopped midway
    " SET lock_timeout = '10s';"  # a wait for a locked table ends in an error
    " SET idle_session_timeout = 0;"  # a connection that holds this server's lock and listens is mostly idle
    " SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
    # What others have committed is visible once a lock is acquired, whatever the database's default is.
    " SET default_transaction_isolation = 'read committed';"
    # All rows are visible, or none: a guard from which a policy hides rows would pay again.
    " SET row_security = off;"
    # A commit that did not wait for its copies is warned of.
    " SET client_min_messages = warning;"
    " SET extra_float_digits = 1;"  # times are exact to the microsecond
    # Each query has its index, also right after a copy of a million rows, of which PostgreSQL has no statistics yet.
    " SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off;"
    # The fewest rows are best, wherever they are: newer rows of others are not walked to find an owner's old ones.
    " SET seq_page_cost = 0; SET random_page_cost = 0;"
    # A statement that was abandoned here does not go on waiting there, if PostgreSQL can notice (Linux).
    " SELECT set_config('client_connection_check_interval', '2s', false) WHERE version() LIKE '%linux%'"
)
_SERVER_SETTINGS = (
    "SELECT pg_backend_pid(), current_setting('fsync'), current_setting('synchronous_commit'),"
    " current_setting('server_version_num')::int, current_setting('server_encoding'),"
    " current_setting('session_replication_role') = 'replica'"
)

_CLOCK = f"SELECT {CLOCK}"
_START_TO_WRITE = f"{_CLOCK}, set_config('lock_timeout', %s, true), pg_advisory_xact_lock_shared({MIGRATION_LOCK})"
_MAX_CLOCK_DELAY_S = 1.0
"""Seconds after which a transaction's reading of the clock is ignored: the answer may have come late."""

logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # errors are reported in our words


class CommitUnknown(Unavailable):
    """The connection was lost during a commit, which may have succeeded. `result`: what the transaction returned."""

    def __init__(self, result: object) -> None:
        super().__init__("the connection was lost")
        self.result = result


class Clock(NamedTuple):
    """The first statement of a transaction: a query for the database's time, and when it was sent."""

    queried_at: float
    answer: psycopg.Cursor[tuple[Any, ...]]


@dataclass(eq=False)
class Job(Generic[T]):
    """One transaction, to be run in a thread; a caller that cannot wait any longer abandons it."""

    connections: Connections
    work: Callable[[Transaction], T]
    to_write: bool
    timeout_s: float
    deadline: float
    on_late_result: Callable[[object], None]
    """Called with the result of an abandoned transaction that was committed all the same."""
    is_one_statement: bool = False
    """The work is a single statement that only reads, and so a transaction by itself."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._is_abandoned = False
        self._result: T | None = None

    def abandon(self) -> None:
        """End the transaction, since no caller waits for it any more."""
        with self._lock:
            self._is_abandoned = True
            if self._connection is not None:
                self._connection.abort()
        self.on_late_result(self._result)

    def run(self) -> T:
        """Return the result of the work. Raises FileProblem, and nothing is written then, except for CommitUnknown."""
        while True:
            try:
                result = self._attempt()
            except psycopg_pool.PoolTimeout:
                self.connections.check_reachable()
                raise Unavailable("it is busy, or was away until now") from None
            except psycopg.Error as error:
                may_retry = is_transient(error) or is_connection_lost(error)
                if self._is_abandoned or not may_retry or time.monotonic() >= self.deadline:
                    raise problem_from(error) from None
            else:
                return result

    def _attempt(self) -> T:
        self.connections.prepare(self.deadline)
        with self.connections.borrow(self.deadline) as connection:
            self._set_connection(connection)
            try:
                self.connections.set_up(connection)
                result = self._run_statement(connection) if self.is_one_statement else self._transact(connection)
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                self._set_connection(None)
            return result

    def _run_statement(self, connection: Connection) -> T:
        return self.work(Transaction(connection, to_write=False, folder=self.connections.folder))

    def _transact(self, connection: Connection) -> T:
        with ExitStack() as until_committed:
            pipeline = until_committed.enter_context(connection.pipeline())
            clock = self.connections.begin(connection, to_write=self.to_write, timeout_s=self.timeout_s)
            db = Transaction(connection, pipeline, to_write=self.to_write, folder=self.connections.folder)
            result = self.work(db)
            self._commit(connection, until_committed, result)
        self.connections.read_clock(clock)
        return result

    def _commit(self, connection: Connection, until_committed: ExitStack, result: T) -> None:
        connection.has_warned = False
        try:
            committed = connection.execute("COMMIT", prepare=False)
            until_committed.close()
            if committed.statusmessage != "COMMIT":  # of a failed transaction it says ROLLBACK, and that is no error
                raise psycopg.errors.InFailedSqlTransaction
        except psycopg.Error as error:
            if not (self.to_write and is_connection_lost(error)):
                raise
            self._set_result(result)
            raise CommitUnknown(result) from None
        self._set_result(result)
        if self.to_write and connection.has_warned:
            raise CommitUnknown(result)

    def _set_result(self, result: T) -> None:
        """Store the result of a transaction that is committed, or may be."""
        with self._lock:
            self._result = result
            is_late = self._is_abandoned
        if is_late:
            self.on_late_result(result)

    def _set_connection(self, connection: Connection | None) -> None:
        with self._lock:
            self._connection = connection
            if self._is_abandoned and connection is not None:
                connection.abort()


class Connections:
    """Connections to one database; `url`: see https://www.postgresql.org/docs/current/libpq-connect.html."""

    def __init__(self, url: str, prepare: Callable[[Connection], None], folder: Path = Path()) -> None:
        self.folder = folder
        self._prepare = prepare
        self._is_prepared = False
        self._preparing = threading.Lock()
        self._offset = time.time() - time.monotonic()
        self._conninfo = _conninfo(url)
        self._pool: psycopg_pool.ConnectionPool[Connection] | None = None
        self._opening = threading.Lock()

    def now(self) -> float:
        """Return the database's time, from its last reading and this machine's clock since."""
        return time.monotonic() + self._offset

    def connect(self) -> Connection:
        """Return a new connection outside the pool. Raises psycopg.Error or FileProblem."""
        connection = Connection.connect(self._conninfo, autocommit=True)
        try:
            with abort_after(_FIRST_ANSWER_TIMEOUT_S, connection):
                _set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def check_reachable(self) -> None:
        """Raise FileProblem if no connection can be made now; the pool gives no reason."""
        try:
            self.connect().close()
        except psycopg.Error as error:
            raise problem_from(error) from None

    def prepare(self, deadline: float) -> None:
        """Migrate the database, once. Raises FileProblem."""
        if self._is_prepared:
            return
        if not self._preparing.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise Unavailable("it is being brought up to date, or does not answer")
        try:
            if not self._is_prepared:
                with closing(self.connect()) as connection:
                    self._prepare(connection)
                self._is_prepared = True
        except psycopg.Error as error:
            raise problem_from(error) from None
        finally:
            self._preparing.release()

    def borrow(self, deadline: float) -> AbstractContextManager[Connection]:
        """Borrow a connection for one transaction. Raises psycopg_pool.PoolTimeout."""
        with self._opening:
            if self._pool is None:
                self._pool = psycopg_pool.ConnectionPool(
                    self._conninfo,
                    min_size=0,
                    max_size=MAX_CONCURRENT,
                    open=True,
                    kwargs={"autocommit": True},
                    connection_class=Connection,
                    reconnect_timeout=4,
                    max_idle=60,
                    num_workers=2,
                )
            return self._pool.connection(max(deadline - time.monotonic(), 0.05))

    def set_up(self, connection: Connection) -> None:
        """Set up a connection if it is new, and read the clock of its database."""
        if not connection.is_set_up:
            _set_up(connection)
            queried_at = time.monotonic()
            ((now,),) = connection.run(_CLOCK)
            self._offset = float(now) - queried_at

    def begin(self, connection: Connection, *, to_write: bool, timeout_s: float) -> Clock:
        """Begin a transaction, and query the database's time."""
        queried_at = time.monotonic()
        if not to_write:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return Clock(queried_at, connection.execute(_CLOCK))
        connection.execute("BEGIN")
        return Clock(queried_at, connection.execute(_START_TO_WRITE, [f"{timeout_s * 1000:.0f}"]))

    def read_clock(self, clock: Clock) -> None:
        """Read the time that a transaction has queried, once that has ended. Raises nothing, as it is committed."""
        with suppress(psycopg.Error):
            row = clock.answer.fetchone()
            if row is not None and time.monotonic() - clock.queried_at < _MAX_CLOCK_DELAY_S:
                self._offset = float(row[0]) - clock.queried_at

    def close(self) -> None:
        """Close all of them; the next transaction opens others."""
        with self._opening:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=0.3)


def _conninfo(url: str) -> str:
    parameters = parse_address(url)
    defaults = {name: value for name, value in _DEFAULT_PARAMETERS.items() if name not in parameters}
    return make_conninfo(url, **defaults, client_encoding="UTF8")


def _set_up(connection: Connection) -> None:
    """Set up a new connection. Raises FileProblem if commits on it might be lost."""
    ((pid, fsync, commit, version, encoding, skips_triggers),) = connection.run(_SERVER_SETTINGS)
    if pid != connection.info.backend_pid:
        raise Unsuitable(
            "a connection pooler, such as pgbouncer, stands in front of it. Behind one, in whichever mode, servers "
            "cannot rely on seeing each other at work",
            "give the address of PostgreSQL itself",
        )
    if version < 150000:
        raise Unsuitable("it is older than PostgreSQL 15", "use PostgreSQL 15 or newer")
    if encoding != "UTF8":
        raise Unsuitable(f"its encoding is {encoding}", "make a database with the encoding UTF8")
    if fsync != "on":
        raise Unsuitable("its setting fsync is off, so that what was paid for may be lost", "turn fsync on")
    if skips_triggers:
        raise Unsuitable(
            "its setting session_replication_role keeps its triggers from counting what was paid for",
            "set session_replication_role to origin",
        )
    # Set even if it is the default: that may be changed while the connection is open.
    level = "remote_apply" if commit == "remote_apply" else "on"
    connection.run(f"SET synchronous_commit = {level}; {_SESSION_SETTINGS}")
    connection.add_notice_handler(lambda notice: _note_warning(connection, notice))
    connection.is_set_up = True


def _roll_back(connection: Connection) -> None:
    """Roll back. psycopg considers a statement prepared that was skipped after a failed one: `rollback` forgets that,
    and if there is nothing to roll back the connection is not used again."""
    with suppress(psycopg.Error):
        if connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE:
            connection.close()
        else:
            connection.rollback()


def _note_warning(connection: Connection, notice: psycopg.errors.Diagnostic) -> None:
    if notice.severity_nonlocalized == "WARNING":
        connection.has_warned = True
