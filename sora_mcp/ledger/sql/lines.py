"""Which request each line of a batch file became, inside a transaction. See `Ledger.begin` and `Ledger.lines`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sora_mcp.core.accounts import Account
from sora_mcp.core.records import Entry, RecordedLine
from sora_mcp.core.states import REFUSED
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.rows import of_request

if TYPE_CHECKING:
    from sora_mcp.core.batches import BatchLine


def known(db: Database, account: Account, keys: Sequence[str]) -> dict[str, RecordedLine]:
    """What became of lines, by their keys."""
    of_key = {key: _of_key(db, account, key) for key in keys}
    return {key: line for key, line in of_key.items() if line is not None}


def in_the_way(db: Database, account: Account, line: BatchLine) -> Entry | None:
    """The request because of which a line is not sent (again); None where it may be."""
    own = _of_key(db, account, line.key)
    if own is None or (own.entry.state in REFUSED and own.entry.request_id == line.after):
        return None
    return own.entry


def keep(db: Database, account: Account, line: BatchLine, entry: Entry) -> None:
    """Record which request a line became, once."""
    values = (account.address, account.owner, line.key, entry.request_id)
    sql = "SELECT 1 FROM batch_lines WHERE address = ? AND owner = ? AND key = ? AND request_id = ?"
    if db.execute(sql, values).fetchone() is None:
        sql = "INSERT INTO batch_lines (address, owner, key, request_id, file, digest) VALUES (?, ?, ?, ?, ?, ?)"
        db.execute(sql, (*values, line.file, line.digest))


def _of_key(db: Database, account: Account, key: str) -> RecordedLine | None:
    sql = "SELECT request_id, digest FROM batch_lines WHERE address = ? AND owner = ? AND key = ? ORDER BY number DESC"
    requests = db.execute(sql, (account.address, account.owner, key)).fetchall()
    lines = [RecordedLine(of_request(db, request_id), digest) for request_id, digest in requests]
    return next((line for line in lines if line.entry.state not in REFUSED), lines[0] if lines else None)
