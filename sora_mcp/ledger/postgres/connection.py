"""One transaction, as `Database` asks for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import psycopg

CHANNEL = "sora_ledger"
"""Where those who wait hear the request ids of entries that changed."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection to PostgreSQL. `is_set_up`: it was looked at whether what is committed on it is safe."""

    is_set_up = False

    def run(self, script: str) -> list[tuple[Any, ...]]:
        """Run several statements in one round trip; the rows of the last one."""
        cursor = self.execute(script.encode(), prepare=False)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []


def shut(connection: Connection) -> None:
    """End a connection from another thread: whoever waits for an answer on it is told that it is lost."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


class Transaction:
    """An open transaction of a connection. `for_update` is empty where it only reads."""

    if_free = " FOR UPDATE SKIP LOCKED"

    def __init__(self, connection: Connection, *, to_write: bool) -> None:
        self._connection = connection
        self.for_update = " FOR UPDATE" if to_write else ""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._connection.execute(_translated(sql), [_storable(each) for each in values])

    def lock(self, name: str) -> None:
        self.execute("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", [name])

    def day_of(self, column: str) -> str:
        # Whoever shares the ledger may live in several time zones: a day is one of UTC.
        return f"to_char(to_timestamp({column}) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"

    def tell(self, request_id: str) -> None:
        self.execute(f"SELECT pg_notify('{CHANNEL}', ?)", [request_id])


@lru_cache(maxsize=512)
def _translated(sql: str) -> bytes:
    """A statement with the placeholders of psycopg. None of ours holds a question mark in a text."""
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _storable(value: Any) -> Any:
    """A value that PostgreSQL can hold: its texts have no NUL, and no half of a surrogate pair."""
    if isinstance(value, str) and not (value.isascii() and "\0" not in value):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return value
