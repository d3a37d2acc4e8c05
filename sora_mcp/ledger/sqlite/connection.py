"""A connection to the file, as `Database` asks for it."""

from __future__ import annotations

import sqlite3
from pathlib import Path


class Connection(sqlite3.Connection):
    """SQLite lets one transaction at a time write: nothing needs a lock of its own. Nobody is told of a commit."""

    for_update = ""
    if_free = ""
    telling = ""
    folder = Path()

    def lock(self, name: str) -> None:
        pass

    def day_of(self, column: str) -> str:
        return f"date({column}, 'unixepoch', 'localtime')"

    def tell(self, request_id: str) -> None:
        pass
