"""The mark of a ledger that was copied to PostgreSQL: nothing is begun in its file any more, by any release.

A trigger keeps every process from adding a video. Those of earlier releases, which know nothing of a copy, are told
that the ledger cannot be written. Reading goes on.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from sora_mcp.core.advice import AskUser, CopyLedger, LocalText, Restart, Setting
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sqlite.migrations import COPIED, is_copied

_TABLE = "CREATE TABLE IF NOT EXISTS copied_to (place TEXT NOT NULL, begun_at REAL NOT NULL, ended_at REAL)"
_REFUSE = (
    f"CREATE TRIGGER IF NOT EXISTS {COPIED} BEFORE INSERT ON videos"
    " BEGIN SELECT RAISE(ABORT, 'copied to PostgreSQL'); END"
)


class Mark(Struct, frozen=True):
    """Where a ledger was copied to, and when that ended (unix seconds); None where it was not seen to end."""

    place: str
    ended_at: float | None


def mark_of(db: Database) -> Mark | None:
    """The mark of a file, None where it was not copied."""
    if not is_copied(db):
        return None
    row = db.execute("SELECT place, ended_at FROM copied_to").fetchone()
    return Mark("", None) if row is None else Mark(row[0], row[1])


def put_mark(db: Database, place: str, begun_at: float) -> None:
    """From now on nothing is begun here."""
    db.execute(_TABLE)
    db.execute(_REFUSE)
    db.execute("DELETE FROM copied_to")
    db.execute("INSERT INTO copied_to (place, begun_at) VALUES (?, ?)", [place, begun_at])


def end_mark(db: Database, ended_at: float) -> None:
    """The copy is there."""
    db.execute("UPDATE copied_to SET ended_at = coalesce(ended_at, ?)", [ended_at])


def take_mark(db: Database) -> None:
    """There is no copy after all."""
    db.execute(f"DROP TRIGGER IF EXISTS {COPIED}")
    db.execute("DROP TABLE IF EXISTS copied_to")


class Copied(FileProblem):
    """The ledger was copied to PostgreSQL, or a copy was begun: this file pays for nothing any more."""

    def __init__(self, path: Path, db: Database) -> None:
        mark = mark_of(db) or Mark("", None)
        where = LocalText(f" ({mark.place})" if mark.place else "", "")
        what = " was copied to PostgreSQL" if mark.ended_at is not None else " is being copied to PostgreSQL"
        message = (
            "The ledger",
            LocalText(f" {path}", ""),
            what,
            where,
            ": nothing is submitted from this file any more.",
        )
        use_it = AskUser(("set ", Setting("ledger_url"), " to that database and ", Restart()))
        super().__init__(message, *([] if mark.ended_at is not None else [CopyLedger()]), use_it)
