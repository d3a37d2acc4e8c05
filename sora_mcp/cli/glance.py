"""A look at the ledger alone: what list_videos answers where nothing is under way, and nobody has to be asked.

It loads neither the models nor an event loop, each of which takes longer than the whole look.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import Any

from sora_mcp.config.settings import Endpoint, Settings
from sora_mcp.core.accounts import Account
from sora_mcp.core.errors import SoraError
from sora_mcp.core.records import Entry, summary
from sora_mcp.core.tasks import UNDER_WAY
from sora_mcp.ledger.sqlite import rows
from sora_mcp.ledger.sqlite.file import open_to_read, transaction
from sora_mcp.ledger.sqlite.integrity import look_before_opening
from sora_mcp.ledger.sqlite.migrations import is_current


def read(settings: Settings, schema: dict[str, Any], given: dict[str, Any]) -> dict[str, Any] | None:
    """The answer of list_videos; None where only the tool itself can give it, or say what is wrong."""
    limit, before = _limit(schema["properties"]["limit"], given["limit"]), _before(given["cursor"])
    if limit is None or before is None:
        return None
    try:
        endpoint = settings.endpoint()
        look_before_opening(settings.ledger)
        if not settings.ledger.exists():
            return None
        with closing(open_to_read(settings.ledger)) as db, transaction(db, "BEGIN"):
            account = _account(db, endpoint, settings.owner or "")
            if account is None:
                return None
            states = (given["status"],) if given["status"] else ()
            found = rows.page(db, account, limit=limit + 1, before=before[0], states=states)
        return _answer(endpoint.label, found, limit)
    except (SoraError, sqlite3.Error, OSError):
        return None


def _limit(node: dict[str, Any], given: str | None) -> int | None:
    if given is None:
        return int(node["default"])
    limit = int(given) if re.fullmatch(r"[0-9]{1,9}", given) else -1
    return limit if node["minimum"] <= limit <= node["maximum"] else None


def _before(cursor: str | None) -> tuple[int | None] | None:
    """The number that a cursor holds, alone in a tuple; None where it is none."""
    if cursor is None:
        return (None,)
    return (int(cursor),) if re.fullmatch(r"[0-9]{1,18}", cursor) else None


def _account(db: sqlite3.Connection, endpoint: Endpoint, owner: str) -> Account | None:
    """None where somebody must write or ask first: to the file, about a row in *sending*, about a task under way."""
    salt = rows.salt_of(db) if is_current(db) else None
    if salt is None or rows.sending(db):
        return None
    account = Account.of_key(salt, endpoint.base_url, endpoint.api_key.get_secret_value(), owner)
    return None if rows.page(db, account, limit=1, states=UNDER_WAY) else account


def _answer(gateway: str, found: list[Entry], limit: int) -> dict[str, Any]:
    page = found[:limit]
    videos = [{key: value for key, value in summary(entry).items() if value is not None} for entry in page]
    more = {"next_cursor": str(page[-1].number)} if len(found) > limit else {}
    return {"gateway": gateway, "videos": videos, **more}
