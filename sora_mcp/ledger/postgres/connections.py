"""Connections to PostgreSQL, and transactions on them: each comes to its end within a known time, whatever happens."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import psycopg
import psycopg_pool
from psycopg.conninfo import make_conninfo

from sora_mcp.ledger.postgres.connection import Connection, Transaction, shut
from sora_mcp.ledger.postgres.migrations import MIGRATION_LOCK
from sora_mcp.ledger.postgres.place import readable
from sora_mcp.ledger.postgres.trouble import Unavailable, Unsuitable, is_lost, may_pass, problem

T = TypeVar("T")

AT_ONCE = 8
"""Transactions of one server at a time."""
_OURS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "sora ledger",
}
"""What an address that says nothing else gets: a host that is gone is noticed within half a minute."""
_SESSION = (
    "SET idle_in_transaction_session_timeout = '5s'; SET statement_timeout = '15s';"  # a server may be stopped midway
    " SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
)
_IS_SAFE = (
    "SELECT pg_backend_pid(), current_setting('fsync'), current_setting('synchronous_commit'),"
    " current_setting('server_version_num')::int"
)

_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"

logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # what it says is told in our words


class CommitUnknown(Unavailable):
    """The connection was lost while a transaction was being committed: it may be there. `done`: what it returned."""

    def __init__(self, done: object) -> None:
        super().__init__("the connection was lost")
        self.done = done


@dataclass(eq=False)
class Job(Generic[T]):
    """One transaction, to be run in a thread; whoever cannot wait for it any longer abandons it."""

    connections: Connections
    work: Callable[[Transaction], T]
    to_write: bool
    patience_s: float
    give_up_at: float
    when_late: Callable[[object], None]
    """Told what an abandoned transaction returned that was committed all the same."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._is_abandoned = False

    def abandon(self) -> None:
        """Nobody waits for it any more: end it."""
        with self._lock:
            self._is_abandoned = True
            if self._connection is not None:
                shut(self._connection)

    def run(self) -> T:
        """The result of the work. Raises FileProblem, and nothing is written then, but for CommitUnknown."""
        while True:
            try:
                done = self._attempt()
            except psycopg_pool.PoolTimeout:
                self.connections.why_not()
                raise Unavailable("it is busy, or was away until now") from None
            except psycopg.Error as error:
                again = may_pass(error) or is_lost(error)
                if self._is_abandoned or not again or time.monotonic() >= self.give_up_at:
                    raise problem(error) from None
            except CommitUnknown as error:
                if self._is_abandoned:
                    self.when_late(error.done)
                raise
            else:
                if self._is_abandoned:
                    self.when_late(done)
                return done

    def _attempt(self) -> T:
        with self.connections.borrowed(self.give_up_at) as connection:
            self._hold(connection)
            try:
                self.connections.begin(connection, to_write=self.to_write, patience_s=self.patience_s)
                done = self.work(Transaction(connection, to_write=self.to_write))
                self._commit(connection, done)
            except BaseException:
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._hold(None)
            return done

    def _commit(self, connection: Connection, done: T) -> None:
        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            if self.to_write and is_lost(error):
                raise CommitUnknown(done) from None
            raise

    def _hold(self, connection: Connection | None) -> None:
        with self._lock:
            self._connection = connection
            if self._is_abandoned and connection is not None:
                shut(connection)


class Connections:
    """The way to one database: `url` as https://www.postgresql.org/docs/current/libpq-connect.html has it."""

    def __init__(self, url: str, prepare: Callable[[Connection], None]) -> None:
        self._prepare = prepare
        self._is_prepared = False
        self._preparing = threading.Lock()
        self._offset = time.time() - time.monotonic()
        self._conninfo = _conninfo(url)
        self._pool: psycopg_pool.ConnectionPool[Connection] | None = None
        self._opening = threading.Lock()

    def now(self) -> float:
        """The database's clock, as it was last read, and this machine's pace since."""
        return time.monotonic() + self._offset

    def connect(self) -> Connection:
        """A connection of one's own. Raises psycopg.Error or FileProblem."""
        connection = Connection.connect(self._conninfo, autocommit=True)
        try:
            _set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def why_not(self) -> None:
        """Raise FileProblem where no connection can be made now; the pool does not tell why."""
        try:
            self.connect().close()
        except psycopg.Error as error:
            raise problem(error) from None

    def borrowed(self, give_up_at: float) -> _Borrowed:
        """A connection for one transaction, to a database that is up to date."""
        with self._opening:
            if self._pool is None:
                self._pool = psycopg_pool.ConnectionPool(
                    self._conninfo,
                    min_size=0,
                    max_size=AT_ONCE,
                    open=True,
                    kwargs={"autocommit": True},
                    connection_class=Connection,
                    reconnect_timeout=4,
                    max_idle=60,
                    num_workers=2,
                )
            return _Borrowed(self._pool, give_up_at, self._bring_up_to_date)

    def begin(self, connection: Connection, *, to_write: bool, patience_s: float) -> None:
        """Begin a transaction, and read the clock."""
        if to_write:
            waiting = f"SET LOCAL lock_timeout = {patience_s * 1000:.0f}"
            start = f"BEGIN; {waiting}; SELECT pg_advisory_xact_lock_shared({MIGRATION_LOCK})"
        else:
            start = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        sent_at = time.monotonic()
        ((now,),) = connection.run(f"{start}; {_CLOCK}")
        self._offset = float(now) - (sent_at if not to_write else time.monotonic())

    def close(self) -> None:
        """Close all of them; the next transaction opens others."""
        with self._opening:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=1)

    def _bring_up_to_date(self, connection: Connection) -> None:
        if not connection.is_set_up:
            _set_up(connection)
        if not self._is_prepared:
            with self._preparing:
                if not self._is_prepared:
                    self._prepare(connection)
                    self._is_prepared = True


class _Borrowed:
    """A connection of the pool; one that is broken is given back as such, which the pool sees to."""

    def __init__(
        self, pool: psycopg_pool.ConnectionPool[Connection], give_up_at: float, prepare: Callable[[Connection], None]
    ) -> None:
        self._pool = pool
        self._give_up_at = give_up_at
        self._prepare = prepare

    def __enter__(self) -> Connection:
        self._connection = self._pool.getconn(max(self._give_up_at - time.monotonic(), 0.05))
        try:
            self._prepare(self._connection)
        except BaseException:
            self._connection.close()  # the next one is looked at anew
            self._pool.putconn(self._connection)
            raise
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._pool.putconn(self._connection)


def _conninfo(url: str) -> str:
    known = readable(url)
    return make_conninfo(url, **{name: value for name, value in _OURS.items() if name not in known})


def _set_up(connection: Connection) -> None:
    """Set up a new connection. Raises FileProblem where what is committed on it might be lost."""
    ((pid, fsync, commit, version),) = connection.run(_IS_SAFE)
    if pid != connection.info.backend_pid:
        raise Unsuitable(
            "a connection pooler stands in front of it, such as pgbouncer, behind which no server is seen to live",
            "give the address of PostgreSQL itself",
        )
    if version < 150000:
        raise Unsuitable("it is older than PostgreSQL 15", "use PostgreSQL 15 or newer")
    if fsync != "on":
        raise Unsuitable("its setting fsync is off, so that what was paid for may be lost", "turn fsync on")
    stronger = "" if commit in {"on", "remote_apply"} else "SET synchronous_commit = on; "
    connection.run(f"{stronger}{_SESSION}")
    connection.is_set_up = True
