"""The requests of the lines of a batch file, inside a transaction. See `Ledger.begin` and `Ledger.lines`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sora_mcp.core.accounts import Account
from sora_mcp.core.records import Entry, RecordedLine
from sora_mcp.core.states import REFUSED
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.rows import get_by_request

if TYPE_CHECKING:
    from sora_mcp.core.batches import BatchLine


def find_lines(db: Database, account: Account, keys: Sequence[str]) -> dict[str, RecordedLine]:
    """Return what became of lines, by their keys."""
    lines_by_key = {key: _find_line(db, account, key) for key in keys}
    return {key: line for key, line in lines_by_key.items() if line is not None}


def blocking_request(db: Database, account: Account, line: BatchLine) -> Entry | None:
    """Return the request because of which a line is not sent (again), or None if it may be sent."""
    own = _find_line(db, account, line.key)
    if own is None or (own.entry.state in REFUSED and own.entry.request_id == line.after):
        return None
    return own.entry


def record_line(db: Database, account: Account, line: BatchLine, entry: Entry) -> None:
    """Record the request of a line, once."""
    values = (account.address, account.owner, line.key, entry.request_id)
    sql = "SELECT 1 FROM batch_lines WHERE address = ? AND owner = ? AND key = ? AND request_id = ?"
    if db.execute(sql, values).fetchone() is None:
        sql = "INSERT INTO batch_lines (address, owner, key, request_id, file, digest) VALUES (?, ?, ?, ?, ?, ?)"
        db.execute(sql, (*values, line.file, line.digest))


def _find_line(db: Database, account: Account, key: str) -> RecordedLine | None:
    sql = "SELECT request_id, digest FROM batch_lines WHERE address = ? AND owner = ? AND key = ? ORDER BY number DESC"
    requests = db.execute(sql, (account.address, account.owner, key)).fetchall()
    lines = [RecordedLine(get_by_request(db, request_id), digest) for request_id, digest in requests]
    return next((line for line in lines if line.entry.state not in REFUSED), lines[0] if lines else None)
