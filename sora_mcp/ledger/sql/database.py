"""The SQL that engines share, and the few parts that differ between them.

Statements are written once, with `?` for values, in the SQL that SQLite and PostgreSQL both understand. Two
conventions:

- `column || ''` and `column + 0` keep an engine from walking a wide index of that column if there is a narrower one.
- Rows that are read to be changed are read with `for_update`, so that they are still current when they are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

Row = Sequence[Any]


class Cursor(Protocol):
    """The rows that a statement returns."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """One transaction of an engine."""

    @property
    def for_update(self) -> str:
        """The suffix of a SELECT whose row is to be changed: it is locked until the transaction ends.

        Empty in a transaction that only reads, and for an engine with a single writer.
        """

    @property
    def skip_locked(self) -> str:
        """The same, but a row that is locked is left out instead of waited for."""

    @property
    def folder(self) -> Path:
        """The folder of files whose path is recorded as a relative one; empty if there is none."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Cursor:
        """Run one statement.

        Over a network several statements are answered in one round trip, up to the next one whose rows are read: so
        statements that do not depend on each other are all run before the first is read.
        """

    def lock(self, name: str) -> None:
        """Lock a name until this transaction ends; waits for any other transaction that has locked it."""

    def day_of(self, column: str) -> str:
        """Return an expression for the day, such as `2026-05-31`, of a column of unix seconds."""

    @property
    def notify_clause(self) -> str:
        """The suffix of an INSERT INTO history that notifies as `notify` does."""

    def notify(self, request_id: str) -> None:
        """Wake those who wait for the entry, once this transaction is committed."""
