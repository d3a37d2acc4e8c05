"""A connection to the file that implements `Database`."""

from __future__ import annotations

import sqlite3
from pathlib import Path


class Connection(sqlite3.Connection):
    """SQLite has a single writer, so nothing needs a lock of its own. Commits are not announced."""

    for_update = ""
    skip_locked = ""
    notify_clause = ""
    folder = Path()

    def lock(self, name: str) -> None:
        pass

    def day_of(self, column: str) -> str:
        return f"date({column}, 'unixepoch', 'localtime')"

    def notify(self, request_id: str) -> None:
        pass
