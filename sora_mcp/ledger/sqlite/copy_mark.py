"""The mark of a ledger that was copied to PostgreSQL: no release begins anything in its file any more.

A trigger keeps every process from adding a video. Those of earlier releases, which know nothing of a copy, get the
error that the ledger cannot be written. Reading still works.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from sora_mcp.core.advice import AskUser, CopyLedger, LocalText, Restart, Setting
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sqlite.migrations import COPIED_TRIGGER, is_copied

_TABLE = "CREATE TABLE IF NOT EXISTS copied_to (place TEXT NOT NULL, begun_at REAL NOT NULL, ended_at REAL)"
_REFUSE = (
    f"CREATE TRIGGER IF NOT EXISTS {COPIED_TRIGGER} BEFORE INSERT ON videos"
    " BEGIN SELECT RAISE(ABORT, 'copied to PostgreSQL'); END"
)


class Mark(Struct, frozen=True):
    """Where a ledger was copied to, and when the copy was complete (unix seconds), None if that is unknown."""

    place: str
    ended_at: float | None


def read_mark(db: Database) -> Mark | None:
    """Return the mark of a file, or None if it was not copied."""
    if not is_copied(db):
        return None
    row = db.execute("SELECT place, ended_at FROM copied_to").fetchone()
    return Mark("", None) if row is None else Mark(row[0], row[1])


def set_mark(db: Database, place: str, begun_at: float) -> None:
    """Mark the file, so that nothing is begun in it from now on."""
    db.execute(_TABLE)
    db.execute(_REFUSE)
    db.execute("DELETE FROM copied_to")
    db.execute("INSERT INTO copied_to (place, begun_at) VALUES (?, ?)", [place, begun_at])


def complete_mark(db: Database, ended_at: float) -> None:
    """Record that the copy is complete."""
    db.execute("UPDATE copied_to SET ended_at = coalesce(ended_at, ?)", [ended_at])


def remove_mark(db: Database) -> None:
    """Remove the mark, as there is no copy after all."""
    db.execute(f"DROP TRIGGER IF EXISTS {COPIED_TRIGGER}")
    db.execute("DROP TABLE IF EXISTS copied_to")


class Copied(FileProblem):
    """The ledger was copied to PostgreSQL, or a copy was begun: nothing is paid from this file any more."""

    def __init__(self, path: Path, db: Database) -> None:
        mark = read_mark(db) or Mark("", None)
        location = LocalText(f" ({mark.place})" if mark.place else "", "")
        status = " was copied to PostgreSQL" if mark.ended_at is not None else " is being copied to PostgreSQL"
        message = (
            "The ledger",
            LocalText(f" {path}", ""),
            status,
            location,
            ": nothing is submitted from this file any more.",
        )
        next_step = AskUser(("set ", Setting("ledger_url"), " to that database and ", Restart()))
        super().__init__(message, *([] if mark.ended_at is not None else [CopyLedger()]), next_step)
