"""Finding one entry in one statement: most of what a server is asked is how one video stands."""

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
_OF_REQUEST = f"{_FIND} request_id = ? AND address = ? AND owner = ?"
_OF_TASK = f"{_FIND} {rows.OF_TASK} ORDER BY {rows.NEWEST} LIMIT 1"


def find(db: Database, account: Account, video_id: str) -> Entry | None:
    """The entry of a `task_…` or `req_…` id; None where there is none of just this account, or more has to be looked
    after first."""
    if video_id.startswith("req_"):
        row = db.execute(_OF_REQUEST, [video_id, account.address, account.owner]).fetchone()
    else:
        row = db.execute(_OF_TASK, [video_id, rows.name_of(account)]).fetchone()
    if row is None:
        return None
    is_anyone_gone, variants, *columns = row
    if is_anyone_gone:
        return None
    return rows.entry_of(columns, {each["request_id"]: variants for each in variants or ()}, db.folder)
