"""One table of a ledger that is copied: its rows in the file, and in the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice, zip_longest
from typing import Any

import psycopg

from sora_mcp.core.advice import AskUser, Do, Setting
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.postgres.connection import Connection
from sora_mcp.ledger.postgres.errors import is_connection_lost
from sora_mcp.ledger.sqlite.connection import Connection as File

Row = tuple[Any, ...]

TABLES = {
    "videos": ("number", ("request_id",)),
    "generations": ("request_id, variant", ("request_id", "variant")),
    "history": ("number", ("number",)),
    "batch_lines": ("number", ("number",)),
    "seal_keys": ("number", ("number",)),
    "used_answers": ("answer_id", ("answer_id",)),
    "salt": ("value", ()),
}
"""Every table of a ledger: the order in which its rows are read, and the columns that identify a row for a person."""
MAX_NAMED = 5
"""Values named in a refusal; the others are counted."""
BATCH_SIZE = 500
"""Rows in memory at a time."""
_COLUMNS = (
    "SELECT column_name, data_type, is_nullable = 'NO' AND column_default IS NULL FROM information_schema.columns"
    " WHERE table_name = %s AND table_schema = ("
    "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
    " WHERE pg_class.oid = to_regclass('videos')) ORDER BY ordinal_position"
)
_CORRECT = AskUser("correct that in the file, or restore the file from a backup")
_ALLOWED_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "text": (str, "a text"),
    "bigint": (int, "a whole number"),
    "double precision": ((int, float), "a number"),
    "bytea": (bytes, "bytes"),
}
"""The Python types that a column of each PostgreSQL type can hold, and their description."""


class Refused(FileProblem):
    """Nothing was copied."""

    def __init__(self, reason: str, *advice: AskUser | Do) -> None:
        super().__init__(f"{reason} Nothing was copied.", *advice)


class CopiedTable:
    """The table `name`, in the file `db` and in the database. Both are in a transaction."""

    def __init__(self, connection: Connection, db: File, name: str) -> None:
        self.name = name
        self._connection = connection
        self._db = db
        order, self._key_columns = TABLES[name]
        existing = [row[1] for row in db.execute(f"PRAGMA table_info({name})")]
        known = {
            column: (column_type, is_required)
            for column, column_type, is_required in connection.execute(_COLUMNS, [name])
        }
        self._columns = {column: details for column, details in known.items() if column in existing}
        self._others = [column for column in existing if column not in known]
        self._names = ", ".join(self._columns)
        self._sql = f"SELECT {self._names} FROM {name} ORDER BY {order}"  # noqa: S608 - our own names

    def unsupported_values(self) -> Iterator[str]:
        """Describe each value in the file that PostgreSQL cannot hold."""
        for column in self._others:
            yield f"the table {self.name} has a column {column}, which no ledger has"
        for row in self._rows():
            for (column, (column_type, is_required)), value in zip(self._columns.items(), row, strict=True):
                if reason := _problem_with(value, column_type, is_required=is_required):
                    yield f"{column} of {self._describe_row(row)} holds {reason}"

    def write(self) -> int:
        """Replace the rows in the database with those of the file, and return their number. Raises psycopg.Error or
        Refused."""
        self._connection.run(f"TRUNCATE {self.name}")
        rows, number = self._rows(), 0
        while part := list(islice(rows, BATCH_SIZE)):
            self._write(part)
            number += len(part)
        if "number" in self._columns:
            ((newest,),) = self._db.execute(f"SELECT coalesce(max(number), 0) FROM {self.name}")  # noqa: S608 - likewise
            restart = f"ALTER TABLE {self.name} ALTER COLUMN number RESTART WITH {max(newest, 0) + 1:d}"
            self._connection.execute(restart.encode())
        return number

    def compare(self) -> None:
        """Raise Refused if the database returns anything else than what is in the file."""
        with self._connection.cursor(name="compared") as cursor:
            cursor.itersize = BATCH_SIZE
            cursor.execute(self._sql.encode(), binary=True)
            for row, copied in zip_longest(self._rows(), cursor):
                if row != copied:
                    raise Refused(
                        f"The database does not give back what was written: {self._describe_row(row or copied)}.",
                        AskUser(("look at the database of ", Setting("ledger_url"))),
                    )

    def _rows(self) -> Iterator[Row]:
        return self._db.execute(self._sql)

    def _write(self, rows: Sequence[Row]) -> None:
        try:
            self._copy(rows)
        except psycopg.Error as error:
            if is_connection_lost(error):
                raise
            if len(rows) == 1:
                raise Refused(f"The database does not take {self._describe_row(rows[0])}.", _CORRECT) from None
            for row in rows:
                self._write([row])

    def _copy(self, rows: Sequence[Row]) -> None:
        into = f"COPY {self.name} ({self._names}) FROM STDIN".encode()
        with self._connection.transaction(), self._connection.cursor().copy(into) as stream:
            for row in rows:
                stream.write_row(row)

    def _describe_row(self, row: Row) -> str:
        values = dict(zip(self._columns, row, strict=True))
        key = " ".join(_format_value(values[column]) for column in self._key_columns)
        return f"row {key} of the table {self.name}" if key else f"the table {self.name}"


def check_values(tables: Sequence[CopiedTable]) -> None:
    """Raise Refused if the file holds values that PostgreSQL cannot hold."""
    problems = (problem for table in tables for problem in table.unsupported_values())
    if named := list(islice(problems, MAX_NAMED)):
        more = sum(1 for _ in problems)
        summary = f"{'; '.join(named)}{f'; and {more} more' if more else ''}"
        raise Refused(f"PostgreSQL cannot hold all of the ledger: {summary}.", _CORRECT)


def decode_text(raw: bytes) -> str:
    """Decode a text of SQLite's, which may hold any bytes."""
    return raw.decode("utf-8", "surrogateescape")


def _problem_with(value: object, column_type: str, *, is_required: bool) -> str:
    """Describe a value that a column of `column_type` cannot hold; empty if it can."""
    if value is None:
        return "nothing" if is_required else ""
    allowed_types, description = _ALLOWED_TYPES[column_type]
    if not isinstance(value, allowed_types):
        return f"{_type_of(value)} where {description} belongs"
    if not isinstance(value, str) or (value.isascii() and "\0" not in value):
        return ""
    if "\0" in value:
        return "a text with a NUL"
    with suppress(UnicodeEncodeError):
        value.encode()
        return ""
    return "a text that is not UTF-8"


def _type_of(value: object) -> str:
    return "a text" if isinstance(value, str) else "bytes" if isinstance(value, bytes) else "a number"


def _format_value(value: object) -> str:
    """Format a value of a row's key, as far as it can be shown."""
    return str(value)[:80] if isinstance(value, int) or (isinstance(value, str) and value.isprintable()) else "?"
