"""A SQLite ledger that is read as a whole, to be copied."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sora_mcp.core.advice import AskUser, LocalText, Setting
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.sqlite.connection import Connection
from sora_mcp.ledger.sqlite.engine import SqliteLedger
from sora_mcp.ledger.sqlite.integrity import ledger_exists
from sora_mcp.ledger.sqlite.renewal import InUse, exclusive_use

T = TypeVar("T")


class Source(SqliteLedger):
    """The ledger in the file at `path`, which no process uses. Raises FileProblem if there is none, InUse if a living
    process has it open."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, time.time)
        self.path = path
        if not ledger_exists(path):
            message = ("There is no ledger", LocalText(f" at {path}", ""), ": nothing was copied.")
            raise FileProblem(message, AskUser(("check ", Setting("home"))))
        try:
            with exclusive_use(path):
                pass
        except OSError as error:
            message = (
                "The ledger",
                LocalText(f" {path}", ""),
                f" cannot be read ({error.strerror}). Nothing was copied.",
            )
            raise FileProblem(message, AskUser(("check ", Setting("home")))) from None

    def run_exclusively(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, in one transaction: no other process writes meanwhile, and nothing is being
        sent."""
        return self._file.transact("BEGIN IMMEDIATE", lambda db: work(self._check_idle(db)))

    def _check_idle(self, db: Connection) -> Connection:
        self._check_structure(db)
        self._mark_abandoned_unknown(db)
        if not self._has_no_senders(db):
            raise InUse(self.path)
        return db
