"""The ledger's SQLite file: made, brought up to date, and its troubles in our words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_MIGRATIONS = (
    """
    CREATE TABLE videos (
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
    CREATE INDEX videos_task ON videos (gateway, task_id) WHERE task_id IS NOT NULL;
    CREATE INDEX videos_newest ON videos (gateway, number);
    CREATE INDEX videos_state ON videos (gateway, state, number);
    CREATE TABLE generations (
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
    CREATE INDEX generations_id ON generations (generation_id);
    CREATE TABLE salt (value BLOB NOT NULL);
    """,
    """
    ALTER TABLE videos ADD COLUMN writer TEXT;
    ALTER TABLE videos ADD COLUMN fingerprint TEXT;
    CREATE INDEX videos_same ON videos (gateway, fingerprint, number) WHERE fingerprint IS NOT NULL;
    CREATE INDEX videos_sending ON videos (number) WHERE state = 'sending';
    CREATE INDEX videos_day ON videos (gateway, created_at);
    CREATE TABLE history (
        number INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL REFERENCES videos (request_id),
        at REAL NOT NULL,
        state TEXT NOT NULL,
        task_id TEXT,
        reason TEXT
    );
    CREATE INDEX history_of ON history (request_id, number);
    """,
    """
    ALTER TABLE videos ADD COLUMN looked_at REAL;
    ALTER TABLE videos ADD COLUMN not_before REAL;
    ALTER TABLE videos ADD COLUMN misses INTEGER NOT NULL DEFAULT 0;
    """,
)
"""Each step once, in order; `PRAGMA user_version` counts the steps that a file has seen."""


@contextmanager
def transaction(db: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    db.execute(begin)
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


BUSY_S = 10.0
"""Seconds to wait for another process that holds the file."""


def open_file(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.row_factory = sqlite3.Row
        _into_wal(db)
        db.execute("PRAGMA synchronous = FULL")
        _migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """A second connection to a file that `open_file` made: it writes nothing and waits for nothing."""
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    return db


def is_current(db: sqlite3.Connection) -> bool:
    """Whether a file has the form that is read and written now."""
    return _version(db) == len(_MIGRATIONS)


def _into_wal(db: sqlite3.Connection) -> None:
    """WAL mode. The change is the one statement that SQLite's busy time-out does not cover: of several that open a new
    file at once, all but one are told that it is locked."""
    give_up_at = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)
        else:
            return


def _migrate(db: sqlite3.Connection) -> None:
    """Bring the file up to date; of two processes that start at once, one does and the other waits."""
    if is_current(db):
        return
    with transaction(db, "BEGIN IMMEDIATE"):
        if _version(db) > len(_MIGRATIONS):
            raise sqlite3.DatabaseError("made by a newer version of sora-mcp")
        for script in _MIGRATIONS[_version(db) :]:
            for statement in script.split(";"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def _version(db: sqlite3.Connection) -> int:
    with closing(db.execute("PRAGMA user_version")) as cursor:
        return int(cursor.fetchone()[0])


def why(error: Exception) -> str:
    """Our words for what the file system or SQLite says."""
    text = str(error)
    known = {
        "locked": "another process holds it",
        "readonly": "it is read-only",
        "read-only": "it is read-only",
        "full": "the disk is full",
        "No space": "the disk is full",
        "Permission": "no permission",
        "malformed": "it is damaged",
        "not a database": "it is not a ledger",
        "newer version": "it was made by a newer version",
    }
    return next((words for part, words in known.items() if part in text), "it cannot be opened or written")
