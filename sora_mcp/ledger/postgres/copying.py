"""A SQLite ledger, copied into a database: all of it, or nothing.

Everything is written in one transaction, read back and compared there, and committed once the file is marked. Whenever
that is interrupted, the database holds the whole ledger or nothing, and paid calls never go through both.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Literal

import psycopg
from msgspec import Struct

from sora_mcp.core.advice import CopyLedger, Do
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.postgres import migrations
from sora_mcp.ledger.postgres.address import describe_database
from sora_mcp.ledger.postgres.connection import Connection
from sora_mcp.ledger.postgres.connections import Connections
from sora_mcp.ledger.postgres.copied_table import BATCH_SIZE, TABLES, CopiedTable, Refused, check_values, decode_text
from sora_mcp.ledger.postgres.errors import is_connection_lost, problem_from
from sora_mcp.ledger.postgres.presence import LIVING_SENDERS
from sora_mcp.ledger.sqlite.connection import Connection as File
from sora_mcp.ledger.sqlite.copy_mark import complete_mark, read_mark, remove_mark, set_mark
from sora_mcp.ledger.sqlite.source import Source

Outcome = Literal["copied", "could_be_copied", "copied_before"]

_RECORDED = ("videos", "generations", "history", "batch_lines")
"""Tables that are empty if nothing was ever requested."""
_TIMEOUTS = (
    "SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '10min';"
    " SET LOCAL idle_in_transaction_session_timeout = '10min'"
)
_OTHER_SERVERS = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
    " AND application_name = current_setting('application_name') LIMIT 1"
)


class Copy(Struct, frozen=True):
    """The result of a copy. `rows`: their number in each table."""

    outcome: Outcome
    rows: dict[str, int]


def copy_ledger(path: Path, url: str, *, is_dry_run: bool = False, again: bool = False) -> Copy:
    """Copy the ledger in the file at `path` into the database at `url`, and mark the file as copied.

    With `is_dry_run` everything is written and compared, and rolled back. `again`: copy although the file was copied
    before, into a database that is lost. Raises FileProblem, and nothing is copied then.
    """
    connections, source = Connections(url, lambda _: None), Source(path)
    try:
        with connections.connect() as connection:
            return _CopyJob(source, connection, describe_database(url), again=again).run(is_dry_run=is_dry_run)
    except psycopg.Error as error:
        raise problem_from(error) from None
    finally:
        source.close()


class _CopyJob:
    def __init__(self, source: Source, connection: Connection, place: str, *, again: bool) -> None:
        self._source = source
        self._connection = connection
        self._place = place
        self._again = again
        self._is_marked_here = False

    def run(self, *, is_dry_run: bool) -> Copy:
        if is_dry_run:
            with self._connection.transaction(force_rollback=True):
                copy = self._source.run_exclusively(self._copy)
            return Copy("could_be_copied", copy.rows) if copy.outcome == "copied" else copy
        is_written = False
        try:
            with self._connection.transaction():
                copy = self._source.run_exclusively(self._copy_and_mark)
                is_written = copy.outcome == "copied"
        except psycopg.Error as error:
            if is_written and is_connection_lost(error):
                raise _OutcomeUnknown(self._place) from None
            if self._is_marked_here:
                self._source.run_exclusively(remove_mark)
            raise
        self._source.run_exclusively(lambda db: complete_mark(db, self._source.now()))
        return copy

    def _copy_and_mark(self, db: File) -> Copy:
        copy, mark = self._copy(db), read_mark(db)
        if copy.outcome == "copied" or mark is None:
            set_mark(db, self._place, self._source.now())
            self._is_marked_here = mark is None
        return copy

    def _copy(self, db: File) -> Copy:
        db.text_factory = decode_text
        try:
            return self._in_transaction(db)
        finally:
            db.text_factory = str

    def _in_transaction(self, db: File) -> Copy:
        connection = self._connection
        connection.run(_TIMEOUTS)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [migrations.MIGRATION_LOCK])
        migrations.migrate(connection, migrations.STEPS, LIVING_SENDERS)
        if self._has_rows_in(*_RECORDED):
            self._check_is_of_source(db)
            return Copy("copied_before", {name: _count(db, name) for name in TABLES})
        mark = read_mark(db)
        if mark and not self._again and (mark.ended_at is not None or mark.place != self._place):
            raise Refused(
                f"The ledger {self._source.path} was copied before ({mark.place}), and this database is empty: it would"
                " know nothing of what was paid for since.",
                Do(
                    "Name that database. If it is lost for good, add --again: what it knew alone may be paid for twice."
                ),
            )
        if self._has_rows_in("salt", "seal_keys") and connection.execute(_OTHER_SERVERS).fetchone():
            raise Refused(
                "A server uses the database, which has no videos yet.",
                Do("Stop every server that does, and try again."),
            )
        tables = [CopiedTable(connection, db, name) for name in TABLES]
        check_values(tables)
        rows = {table.name: table.write() for table in tables}
        for table in tables:
            table.compare()
        connection.run(f"ANALYZE {', '.join(_RECORDED)}")
        return Copy("copied", rows)

    def _has_rows_in(self, *tables: str) -> bool:
        return any(
            self._connection.run(f"SELECT 1 FROM {each} LIMIT 1")  # noqa: S608 - our own names
            for each in tables
        )

    def _check_is_of_source(self, db: File) -> None:
        """Raise Refused if the database does not hold a copy of this file."""
        salts = {bytes(row[0]) for row in db.execute("SELECT value FROM salt")}
        ((newest,),) = db.execute("SELECT max(number) FROM videos")
        copied_salts = {row[0] for row in self._connection.run("SELECT value FROM salt")}
        if (newest is None and not salts) or not salts <= copied_salts:
            raise _AnotherLedger
        sql = "SELECT number, request_id FROM videos WHERE number <= {} ORDER BY number"
        with self._connection.cursor(name="videos") as cursor:
            cursor.itersize = BATCH_SIZE
            cursor.execute(sql.format(newest or 0).encode())
            for row, copied in zip_longest(db.execute(sql.format(newest or 0)), cursor):
                if row != copied:
                    raise _Diverged if salts else _AnotherLedger


def _count(db: File, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - our own names


class _AnotherLedger(Refused):
    def __init__(self) -> None:
        super().__init__("The database holds another ledger.", Do("Name an empty database."))


class _Diverged(Refused):
    def __init__(self) -> None:
        super().__init__(
            "The database holds a copy of this ledger, but other videos than the file: it was used after the copy.",
            Do("Go on with the one in which the newest videos are."),
        )


class _OutcomeUnknown(FileProblem):
    """The connection was lost while the copy was being committed."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"The connection was lost while the copy was being finished ({place}): it is there, or nothing is. The file"
            " takes no paid call until that is known.",
            CopyLedger(),
        )
