"""One transaction, as `Database` asks for it.

Its statements are sent on without waiting for their answers, up to the first whose rows are read: one round trip for
all of them. Where one of them fails, the next read raises that, or the commit.
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
"""Where those who wait hear the request ids of entries that changed."""
SERVERS_CHANNEL = "sora_servers"
"""Where servers tell each other what their clients said to one of them."""
CLOCK = "extract(epoch FROM clock_timestamp())::float8"
"""The database's clock, in unix seconds."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection to PostgreSQL.

    `is_set_up`: it was looked at whether what is committed on it is safe. `has_warned`: PostgreSQL said so of the last
    statement, as of a commit that a cancelled wait has kept from its copies.
    """

    is_set_up = False
    has_warned = False

    def __init__(self, pgconn: PGconn, row_factory: RowFactory[Any] = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self._closing = threading.Lock()
        # libpq closes its own as soon as it notices a loss, and the number may be another connection's right after.
        self._socket = socket.fromfd(pgconn.socket, socket.AF_INET, socket.SOCK_STREAM)
        weakref.finalize(self, self._socket.close)

    def close(self) -> None:
        with self._closing:
            self._socket.close()
        super().close()

    def abort(self) -> None:
        """End it from another thread: whoever waits for an answer on it is told that it is lost."""
        with suppress(OSError), self._closing:
            self._socket.shutdown(socket.SHUT_RDWR)

    def run(self, script: str) -> list[tuple[Any, ...]]:
        """Run several statements in one round trip; the rows of the last one."""
        cursor = self.execute(script.encode(), prepare=False)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []


@contextmanager
def abort_after(seconds: float, connection: Connection) -> Iterator[None]:
    """Shut a connection that takes longer: it raises psycopg.Error then. PostgreSQL may stand still."""
    timer = threading.Timer(seconds, connection.abort)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Answer:
    """The rows of a statement that was sent: they are waited for when they are read."""

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
            # Not only flushed: a server that is stopped before it goes on is seen to idle in a transaction.
            self._pipeline.sync()
        return self._cursor


class Transaction:
    """An open transaction of a connection, in its `pipeline` if it has one. `for_update` is empty where it only
    reads."""

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
        # Whoever shares the ledger may live in several time zones: a day is one of UTC.
        return f"to_char(to_timestamp({column}) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"

    def notify(self, request_id: str) -> None:
        self.execute(f"SELECT pg_notify('{CHANGES_CHANNEL}', ?)", [request_id])


@lru_cache(maxsize=512)
def _translate(sql: str) -> bytes:
    """A statement with the placeholders of psycopg. None of ours holds a question mark in a text."""
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _to_storable(value: Any) -> Any:
    """A value that PostgreSQL can hold: its texts have no NUL, and no half of a surrogate pair."""
    if isinstance(value, str) and not (value.isascii() and "\0" not in value):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return value
