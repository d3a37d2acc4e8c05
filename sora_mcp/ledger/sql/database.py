"""The SQL that engines share, and the few things that each of them says in its own way.

Statements are written once, with `?` for values, in what SQLite and PostgreSQL both understand. Two conventions:

- `column || ''` and `column + 0` keep an engine from walking a wide index of that column where a narrower one is there.
- What is read in order to be changed is read with `for_update`, so that it is still true when it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

Row = Sequence[Any]


class Cursor(Protocol):
    """The rows that a statement gives."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """One transaction of an engine."""

    @property
    def for_update(self) -> str:
        """What stands behind a SELECT whose row is to be changed: nobody else changes it until the transaction ends.

        Empty in a transaction that only reads, and where an engine lets one write at a time.
        """

    @property
    def if_free(self) -> str:
        """The same, but a row that somebody else is changing is left out instead of waited for."""

    @property
    def folder(self) -> Path:
        """Where files lie whose path is recorded as a relative one; empty where none is."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Cursor:
        """Run one statement.

        An engine that is asked over a network answers several at once, up to the next one whose rows are read:
        statements that do not depend on each other are run first, and read then.
        """

    def lock(self, name: str) -> None:
        """Wait until no other transaction holds this name, and hold it until this one ends."""

    def day_of(self, column: str) -> str:
        """An expression for the day, as `2026-05-31`, of a column of unix seconds."""

    @property
    def telling(self) -> str:
        """What stands behind an INSERT INTO history, so that it is told as `tell` does."""

    def tell(self, request_id: str) -> None:
        """Once this is committed, let those who wait for the entry look at it."""
