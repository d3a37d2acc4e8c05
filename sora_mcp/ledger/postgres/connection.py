"""A connection, and a transaction that implements `Database`.

Statements are sent without waiting for their answers, up to the first whose rows are read: one round trip for all of
them. If one of them fails, the next read or the commit raises the error.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq.abc import PGconn
from psycopg.rows import RowFactory, tuple_row

CHANGES_CHANNEL = "sora_ledger"
"""The channel on which the request ids of changed entries are announced."""
SERVERS_CHANNEL = "sora_servers"
"""The channel on which servers pass on what a client has said to one of them."""
CLOCK = "extract(epoch FROM clock_timestamp())::float8"
"""The database's clock, in unix seconds."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection to PostgreSQL.

    `is_set_up`: it was checked that commits on it are safe. `has_warned`: PostgreSQL has warned of the last statement,
    such as a commit that did not reach its copies because the wait for them was cancelled.
    """

    is_set_up = False
    has_warned = False

    def __init__(self, pgconn: PGconn, row_factory: RowFactory[Any] = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self._closing = threading.Lock()
        # libpq closes its own as soon as it notices a loss, and the descriptor may be another connection's right after.
        self._socket = socket.fromfd(pgconn.socket, socket.AF_INET, socket.SOCK_STREAM)
        weakref.finalize(self, self._socket.close)

    def close(self) -> None:
        with self._closing:
            self._socket.close()
        super().close()

    def abort(self) -> None:
        """Shut the connection down from another thread: a statement that waits for its answer fails."""
        with suppress(OSError), self._closing:
            self._socket.shutdown(socket.SHUT_RDWR)

    def run(self, script: str) -> list[tuple[Any, ...]]:
        """Run several statements in one round trip, and return the rows of the last one."""
        cursor = self.execute(script.encode(), prepare=False)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []


@contextmanager
def abort_after(seconds: float, connection: Connection) -> Iterator[None]:
    """Abort a connection that takes longer, as PostgreSQL may hang: it raises psycopg.Error then."""
    timer = threading.Timer(seconds, connection.abort)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Answer:
    """The rows of a statement that was sent; reading them waits for the answer."""

    def __init__(self, cursor: psycopg.Cursor[tuple[Any, ...]], pipeline: psycopg.Pipeline | None) -> None:
        self._cursor = cursor
        self._pipeline = pipeline

    def fetchone(self) -> Any:
        return self._ready_cursor().fetchone()

    def fetchall(self) -> list[Any]:
        return self._ready_cursor().fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._ready_cursor())

    def _ready_cursor(self) -> psycopg.Cursor[tuple[Any, ...]]:
        if self._pipeline is not None and self._cursor.pgresult is None:
            # Not only flushed: so PostgreSQL sees a server that is stopped before it goes on as idle in a transaction.
            self._pipeline.sync()
        return self._cursor


class Transaction:
    """An open transaction of a connection, in its `pipeline` if it has one. `for_update` is empty if it only reads."""

    skip_locked = " FOR UPDATE SKIP LOCKED"
    notify_clause = f" RETURNING pg_notify('{CHANGES_CHANNEL}', request_id)"

    def __init__(
        self,
        connection: Connection,
        pipeline: psycopg.Pipeline | None = None,
        *,
        to_write: bool,
        folder: Path = Path(),
    ) -> None:
        self.folder = folder
        self._connection = connection
        self._pipeline = pipeline
        self.for_update = " FOR UPDATE" if to_write else ""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Answer:
        cursor = self._connection.execute(_translate(sql), [_to_storable(each) for each in values])
        return Answer(cursor, self._pipeline)

    def lock(self, name: str) -> None:
        self.execute("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", [name])

    def day_of(self, column: str) -> str:
        # The servers and people that share the ledger may be in several time zones: a day is one of UTC.
        return f"to_char(to_timestamp({column}) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"

    def notify(self, request_id: str) -> None:
        self.execute(f"SELECT pg_notify('{CHANGES_CHANNEL}', ?)", [request_id])


@lru_cache(maxsize=512)
def _translate(sql: str) -> bytes:
    """Return a statement with the placeholders of psycopg. No statement has a question mark in a literal."""
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _to_storable(value: Any) -> Any:
    """Return a value that PostgreSQL can store: its texts have no NUL, and no half of a surrogate pair."""
    if isinstance(value, str) and not (value.isascii() and "\0" not in value):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return value
