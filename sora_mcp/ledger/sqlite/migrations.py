"""The schema of the ledger's SQLite file, as the steps that lead to it, and how a file is migrated.

Every step is applied to a file that isn't current, even if its version says that it was: before the first release steps
were changed after files had been created by them. So a step leaves alone what exists already. It only adds, and drops
no more than an index that no query needs: columns, tables and the folder `writers` keep their names, so that a process
of an earlier release still finds what it needs to record the answer of a POST that it has begun.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing

from sora_mcp.ledger.sql.counting import GROUP
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sqlite.connection import Connection

_ACCOUNT = {
    "address": "CASE instr(gateway, '#') WHEN 0 THEN gateway ELSE substr(gateway, 1, instr(gateway, '#') - 1) END",
    "key_fingerprint": "CASE instr(gateway, '#') WHEN 0 THEN '' ELSE substr(gateway, instr(gateway, '#') + 1, 16) END",
    "owner": "CASE instr(gateway, '#') WHEN 0 THEN '' ELSE substr(gateway, instr(gateway, '#') + 18) END",
}
"""An account's parts in the text `gateway`, which alone holds them in files of the first three steps."""

_COLUMNS = ("gateway", "address", "key_fingerprint", "owner", "state")
_COUNTED = (*_COLUMNS, "merged_into", "cost", "estimate", "currency", "stated", "stated_currency")
"""The columns of `videos` that a sum depends on."""


def _share(row: str, sign: str = "") -> str:
    """Return what a row of `videos` adds to its sum, by the gateway's own figure if there is one. Whatever another
    program has written, it is a number that can be added and subtracted: a trigger that fails keeps a row from being
    recorded."""
    money = f"coalesce({row}.stated, {row}.estimate)"
    columns = ", ".join(f"coalesce({row}.{name}, '') AS {name}" for name in _COLUMNS)
    return (
        f"{columns}, CASE WHEN {row}.stated IS NOT NULL THEN coalesce({row}.stated_currency, '')"
        f" WHEN {row}.estimate IS NOT NULL THEN coalesce({row}.currency, '') ELSE '' END AS currency,"
        f" {sign}1 AS videos,"
        f" {sign}CASE WHEN {money} IS NULL THEN min(max(CAST(coalesce({row}.cost, 0) AS REAL), 0), 1e9) ELSE 0 END"
        f" AS relative, {sign}min(max(CAST(coalesce({money}, 0) AS INTEGER), 0), {10**17}) AS billionths,"
        f" {sign}CASE WHEN {money} IS NULL AND {row}.cost IS NULL THEN 1 ELSE 0 END AS unpriced"
    )


def _add(row: str, sign: str = "") -> str:
    """Return a statement of a trigger. Relative costs have few decimals: rounded to them, a sum stays exact."""
    return (
        f"INSERT INTO video_counts SELECT {_share(row, sign)} WHERE {row}.merged_into IS NULL"
        " ON CONFLICT DO UPDATE SET videos = videos + excluded.videos,"
        " relative = round(relative + excluded.relative, 6), billionths = billionths + excluded.billionths,"
        " unpriced = unpriced + excluded.unpriced;"
    )


def _values(row: str) -> str:
    return ", ".join(f"{row}.{name}" for name in _COUNTED)


_SUMMED_UP = (
    f"SELECT {GROUP}, sum(videos) AS videos, round(sum(relative), 6) AS relative,"  # noqa: S608 - ours
    " sum(billionths) AS billionths, sum(unpriced) AS unpriced"
    f" FROM (SELECT {_share('videos')} FROM videos WHERE merged_into IS NULL) GROUP BY {GROUP}"
)
"""The table `video_counts`, summed up."""
_COUNTS = f"""
    DROP TRIGGER IF EXISTS videos_added;
    DROP TRIGGER IF EXISTS videos_changed;
    DROP TRIGGER IF EXISTS videos_removed;
    DROP TABLE IF EXISTS video_counts;
    CREATE TABLE video_counts (
        gateway TEXT NOT NULL,
        address TEXT NOT NULL,
        key_fingerprint TEXT NOT NULL,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        currency TEXT NOT NULL,
        videos INTEGER NOT NULL,
        relative REAL NOT NULL,
        billionths INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,
        PRIMARY KEY (owner, gateway, address, key_fingerprint, state, currency)
    ) WITHOUT ROWID;
    INSERT INTO video_counts {_SUMMED_UP};
    CREATE TRIGGER videos_added AFTER INSERT ON videos
    BEGIN
        {_add("NEW")}
    END;
    CREATE TRIGGER videos_changed AFTER UPDATE OF {", ".join(_COUNTED)} ON videos
    WHEN ({_values("OLD")}) IS NOT ({_values("NEW")})
    BEGIN
        {_add("OLD", "-")}
        {_add("NEW")}
    END;
    CREATE TRIGGER videos_removed AFTER DELETE ON videos
    BEGIN
        {_add("OLD", "-")}
    END;
"""
"""The table is created again if it exists: earlier triggers counted differently."""

_STEPS = (
    """
    CREATE TABLE IF NOT EXISTS videos (
        number INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL UNIQUE,
        gateway TEXT NOT NULL,
        task_id TEXT,
        operation TEXT,
        state TEXT NOT NULL,
        body TEXT NOT NULL,
        sources TEXT NOT NULL,
        cost REAL,
        progress INTEGER,
        enhanced_prompt TEXT,
        failure_reason TEXT,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    );
    CREATE INDEX IF NOT EXISTS videos_newest ON videos (gateway, number);
    CREATE TABLE IF NOT EXISTS generations (
        request_id TEXT NOT NULL REFERENCES videos (request_id),
        variant INTEGER NOT NULL,
        generation_id TEXT,
        url TEXT,
        width INTEGER,
        height INTEGER,
        n_frames INTEGER,
        file TEXT,
        PRIMARY KEY (request_id, variant)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS generations_id ON generations (generation_id);
    CREATE TABLE IF NOT EXISTS salt (value BLOB NOT NULL);
    """,
    """
    ALTER TABLE videos ADD COLUMN writer TEXT;
    ALTER TABLE videos ADD COLUMN fingerprint TEXT;
    CREATE INDEX IF NOT EXISTS videos_sending ON videos (number) WHERE state = 'sending';
    CREATE INDEX IF NOT EXISTS videos_day ON videos (gateway, created_at);
    CREATE TABLE IF NOT EXISTS history (
        number INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL REFERENCES videos (request_id),
        at REAL NOT NULL,
        state TEXT NOT NULL,
        task_id TEXT,
        reason TEXT
    );
    CREATE INDEX IF NOT EXISTS history_of ON history (request_id, number);
    """,
    """
    ALTER TABLE videos ADD COLUMN looked_at REAL;
    ALTER TABLE videos ADD COLUMN not_before REAL;
    ALTER TABLE videos ADD COLUMN misses INTEGER NOT NULL DEFAULT 0;
    """,
    f"""
    ALTER TABLE videos ADD COLUMN address TEXT;
    ALTER TABLE videos ADD COLUMN key_fingerprint TEXT;
    ALTER TABLE videos ADD COLUMN owner TEXT;
    UPDATE videos SET
        address = {_ACCOUNT["address"]},
        key_fingerprint = {_ACCOUNT["key_fingerprint"]},
        owner = {_ACCOUNT["owner"]}
    WHERE address IS NULL;
    ALTER TABLE videos ADD COLUMN gateway_state TEXT;
    ALTER TABLE videos ADD COLUMN gateway_message TEXT;
    ALTER TABLE videos ADD COLUMN failure_code TEXT;
    ALTER TABLE videos ADD COLUMN answer TEXT;
    ALTER TABLE videos ADD COLUMN other_ids TEXT;
    ALTER TABLE videos ADD COLUMN withheld INTEGER;
    ALTER TABLE videos ADD COLUMN merged_into TEXT;
    DROP INDEX IF EXISTS videos_same;
    DROP INDEX IF EXISTS videos_task;
    CREATE INDEX IF NOT EXISTS videos_intent ON videos (fingerprint, number) WHERE fingerprint IS NOT NULL;
    CREATE INDEX IF NOT EXISTS videos_task_id ON videos (task_id) WHERE task_id IS NOT NULL;
    CREATE TRIGGER IF NOT EXISTS videos_begun_by_an_older_release BEFORE INSERT ON videos WHEN NEW.address IS NULL
    BEGIN
        SELECT RAISE(ABORT, 'made by a newer version of sora-mcp');
    END;
    """,  # noqa: S608 - our own text
    "",
    """
    ALTER TABLE videos ADD COLUMN dialect TEXT;
    ALTER TABLE videos ADD COLUMN adjusted TEXT;
    ALTER TABLE videos ADD COLUMN missed_since REAL;
    ALTER TABLE videos ADD COLUMN settled_at REAL;
    ALTER TABLE generations ADD COLUMN fps REAL;
    """,
    """
    DROP INDEX IF EXISTS videos_state;
    ALTER TABLE videos ADD COLUMN sent_fingerprint TEXT;
    CREATE INDEX IF NOT EXISTS videos_sent ON videos (sent_fingerprint) WHERE sent_fingerprint IS NOT NULL;
    ALTER TABLE videos ADD COLUMN estimate INTEGER;
    ALTER TABLE videos ADD COLUMN currency TEXT;
    ALTER TABLE videos ADD COLUMN stated INTEGER;
    ALTER TABLE videos ADD COLUMN stated_currency TEXT;
    """,
    """
    CREATE TABLE IF NOT EXISTS batch_lines (
        number INTEGER PRIMARY KEY,
        address TEXT NOT NULL,
        owner TEXT NOT NULL,
        file TEXT NOT NULL,
        key TEXT NOT NULL,
        digest TEXT NOT NULL,
        request_id TEXT NOT NULL REFERENCES videos (request_id)
    );
    CREATE INDEX IF NOT EXISTS batch_lines_key ON batch_lines (address, owner, key, number);
    CREATE INDEX IF NOT EXISTS batch_lines_request ON batch_lines (request_id);
    """,
    """
    CREATE TABLE IF NOT EXISTS seal_keys (
        number INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        made_at REAL NOT NULL
    );
    CREATE TABLE IF NOT EXISTS used_answers (answer_id TEXT PRIMARY KEY, kept_until REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS used_answers_old ON used_answers (kept_until);
    """,
    """
    DROP INDEX IF EXISTS videos_money;
    DROP INDEX IF EXISTS videos_by_state;
    CREATE INDEX IF NOT EXISTS videos_by_state ON videos (gateway, state, number);
    """
    + _COUNTS,
    "CREATE INDEX IF NOT EXISTS generations_file ON generations (file) WHERE file IS NOT NULL;",
)
"""In order; `PRAGMA user_version` counts the steps that a file has seen.

The trigger of the fourth step keeps releases that do not look at `user_version` again from beginning anything. The
fifth once kept totals in a table of its own; files that have it keep it. The seventh gives costs in a currency columns
of their own: an earlier release would take them for relative. The eighth keeps which request each line of a batch file
became. The tenth keeps what rows add up to. By the eleventh a file is found without looking at all of them.
"""

CURRENT = len(_STEPS)
"""The version of a file that is read and written now."""

_DEFAULTS_IN_OLDER_FILES = _ACCOUNT | {"misses": "0"}
"""The value of a column that an older file does not have yet; NULL for the others."""


COPIED_TRIGGER = "videos_begun_after_the_copy"
"""The trigger that a copy to PostgreSQL leaves, so that nothing is begun; see `copy_mark`."""


def is_copied(db: Database) -> bool:
    """Return whether a file was copied to PostgreSQL, through which calls are paid now."""
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = ?"
    return db.execute(sql, [COPIED_TRIGGER]).fetchone() is not None


class NewerSchema(sqlite3.DatabaseError):
    """The file was created or migrated by a newer release."""

    def __init__(self) -> None:
        super().__init__("made by a newer version of sora-mcp")


def is_current(db: Database) -> bool:
    """Return whether a file has the current schema."""
    return version(db) == CURRENT


def version(db: Database) -> int:
    """Return how many steps were applied to a file, 0 for an empty one."""
    return int(db.execute("PRAGMA user_version").fetchall()[0][0])


def migrate(db: Connection, begin: Begin, may_change: Callable[[Connection], bool]) -> bool:
    """Migrate a file; of two processes that start at once, one does and the other waits.

    Returns False if `may_change` forbids it: a process of an older release is in the middle of a POST, and must still
    be able to record its answer. Raises NewerSchema.
    """
    if is_current(db):
        return True
    with begin(db, "BEGIN IMMEDIATE"):
        before = version(db)
        if before > CURRENT:
            raise NewerSchema
        if before >= _FIRST_WITH_WRITERS and not may_change(db):
            return before == CURRENT
        drop_compatibility_views(db)
        for statement in _statements("".join(_STEPS)):
            if not _adds_existing_column(db, statement):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {CURRENT}")
    return True


_FIRST_WITH_WRITERS = 2
"""The first version whose rows say which process is sending them."""

Begin = Callable[[Connection, str], AbstractContextManager[Connection]]
"""Opens a transaction."""


def create_compatibility_views(db: Connection) -> None:
    """Let current queries read an older file that cannot be migrated yet, by temporary views of this connection."""
    with closing(sqlite3.connect(":memory:", factory=Connection)) as model:
        for script in _STEPS:
            model.executescript(script)
        wanted = {table: _columns(model, table) for table in _CHANGED_TABLES}
    drop_compatibility_views(db)
    for table, names in wanted.items():
        existing = set(_columns(db, table))
        if not existing:
            nothing = ", ".join(f"NULL AS {name}" for name in names)
            db.execute(f"CREATE TEMP VIEW {table} AS SELECT {nothing} WHERE 0")
            continue
        columns = ", ".join(n if n in existing else f"{_DEFAULTS_IN_OLDER_FILES.get(n, 'NULL')} AS {n}" for n in names)
        db.execute(f"CREATE TEMP VIEW {table} AS SELECT {columns} FROM main.{table}")  # noqa: S608 - our own names
    db.execute(f"CREATE TEMP VIEW video_counts AS {_SUMMED_UP}")


_CHANGED_TABLES = ("videos", "generations", "batch_lines", "seal_keys")
"""Tables that later steps have created, or added columns to."""


def drop_compatibility_views(db: Connection) -> None:
    """Drop the views of `create_compatibility_views`."""
    for view in ("video_counts", *_CHANGED_TABLES):
        db.execute(f"DROP VIEW IF EXISTS temp.{view}")


def _columns(db: Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]


def _adds_existing_column(db: Connection, statement: str) -> bool:
    """Return whether a statement adds a column that the file already has."""
    column = re.match(r"\s*ALTER TABLE (\w+) ADD COLUMN (\w+)", statement)
    return column is not None and column[2] in _columns(db, column[1])


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; a trigger contains semicolons."""
    statement = ""
    for part in script.split(";")[:-1]:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
