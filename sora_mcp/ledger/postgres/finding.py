"""Finds one entry in one statement: most requests to a server are for the state of one video."""

from __future__ import annotations

from sora_mcp.core.accounts import Account
from sora_mcp.core.records import Entry
from sora_mcp.ledger.postgres.presence import DEAD_SENDERS
from sora_mcp.ledger.sql import rows
from sora_mcp.ledger.sql.database import Database

_VARIANTS = (
    "SELECT json_agg(generations ORDER BY variant) FROM generations WHERE generations.request_id = videos.request_id"
)
_FIND = (
    f"SELECT EXISTS ({DEAD_SENDERS}), ({_VARIANTS}), {rows.COLUMNS}"  # noqa: S608 - our own text
    " FROM videos WHERE merged_into IS NULL AND "
)
_BY_REQUEST = f"{_FIND} request_id = ? AND address = ? AND owner = ?"
_BY_TASK = f"{_FIND} {rows.BY_TASK} ORDER BY {rows.NEWEST} LIMIT 1"


def find(db: Database, account: Account, video_id: str) -> Entry | None:
    """Return the entry of a `task_…` or `req_…` id; None if this very account has none, or if other work has to be done
    first."""
    if video_id.startswith("req_"):
        row = db.execute(_BY_REQUEST, [video_id, account.address, account.owner]).fetchone()
    else:
        row = db.execute(_BY_TASK, [video_id, rows.gateway_key(account)]).fetchone()
    if row is None:
        return None
    has_dead_sender, variants, *columns = row
    if has_dead_sender:
        return None
    return rows.entry_from_row(columns, {each["request_id"]: variants for each in variants or ()}, db.folder)
