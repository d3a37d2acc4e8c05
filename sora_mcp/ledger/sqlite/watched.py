"""The rows that are looked after in the background: what is under way, has no address yet, or no file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import islice

from sora_mcp.core.accounts import Account, Team
from sora_mcp.core.records import DAY_S, HOUR_S, Entry
from sora_mcp.core.tasks import UNDER_WAY
from sora_mcp.ledger.sqlite.accounts import rows_of
from sora_mcp.ledger.sqlite.rows import NEWEST, listed, places

_SUCCEEDED = "created_at > ? AND +state = 'succeeded'"
_ADDRESSES = "EXISTS (SELECT 1 FROM generations AS g WHERE g.request_id = videos.request_id AND g.url IS NOT NULL"
_SINCE = (
    "EXISTS (SELECT 1 FROM history AS h WHERE h.request_id = videos.request_id AND h.state = 'succeeded' AND at > ?)"
)


def unsaved(db: sqlite3.Connection, whose: Account | Team, now: float, limit: int) -> list[Entry]:
    """Rows of the last 24 hours that succeeded and have a variant with an address and without a file."""
    theirs, values = rows_of(whose)
    where = f"{theirs} AND {_SUCCEEDED} AND {_ADDRESSES} AND g.file IS NULL)"
    return _readable(db, where, [*values, now - DAY_S], limit)


def without_address(db: sqlite3.Connection, whose: Account | Team, now: float, limit: int) -> list[Entry]:
    """Rows that succeeded within the last hour, after a day at most, and have no variant with an address."""
    theirs, values = rows_of(whose)
    where = f"{theirs} AND {_SUCCEEDED} AND NOT {_ADDRESSES}) AND {_SINCE}"
    return _readable(db, where, [*values, now - DAY_S - HOUR_S, now - HOUR_S], limit)


def under_way(db: sqlite3.Connection, whose: Account | Team, now: float, limit: int) -> list[Entry]:
    """Rows whose task the gateway has not finished, newest first; of a team's the newest of each account, then the
    second of each, of the last 24 hours: nobody's many keep another's from being followed."""
    theirs, values = rows_of(whose)
    if isinstance(whose, Team):
        where = f"{theirs} AND state IN ({places(UNDER_WAY)}) AND +created_at > ?"
        return _readable(db, where, [*values, *UNDER_WAY, now - DAY_S], limit, order=_IN_TURN)
    by_state = [_readable(db, f"{theirs} AND state = ?", [*values, state], limit) for state in UNDER_WAY]
    return sorted((entry for rows in by_state for entry in rows), key=lambda e: -e.number)[:limit]


_IN_TURN = "row_number() OVER (PARTITION BY gateway ORDER BY number DESC), number DESC"


def _readable(
    db: sqlite3.Connection, where: str, values: Sequence[object], limit: int, order: str = NEWEST
) -> list[Entry]:
    """Rows as `select` gives them, but for those that cannot be read."""
    return list(islice((entry for entry in listed(db, where, values, -1, order) if not entry.is_damaged), limit))
