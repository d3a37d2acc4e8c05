"""What the ledger's methods need of an engine: reads, writes, a clock, and who is still sending."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import TypeVar

from sora_mcp.core.advice import AskUser, TryAgain
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.sql import rows
from sora_mcp.ledger.sql.changes import Changes
from sora_mcp.ledger.sql.database import Database

T = TypeVar("T")

BUSY_S = 10.0
"""Seconds to wait for another process that holds what is to be written, where that matters."""
LINE_S = 30.0
"""The same at most where others hold it one after another: they get on, and so will this one."""
BRIEFLY_S = 0.2
"""The same where it can be done later, or by others."""

GONE = "the process that was sending it ended before the gateway's answer was recorded"


class Held(FileProblem):
    """Another process holds the ledger, and may do so for long: one that was stopped, perhaps."""

    retryable = True


class OlderRelease(Held):
    """A process of an older release is in the middle of a POST: until it has recorded the answer, the ledger stays as
    it is."""

    def __init__(self) -> None:
        super().__init__(
            "Another window runs an older release, which is in the middle of a create.",
            TryAgain(60),
            AskUser("restart the other windows"),
        )


class Transactions(ABC):
    """The transactions of an engine. Work that is handed to one may be done again where the first try came to nothing:
    it changes nothing but the database."""

    _newest: tuple[int, str] | None = None
    """Number and request id of the last row that was begun here."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    @abstractmethod
    async def _write(self, work: Callable[[Database], T], patience_s: float = BUSY_S) -> T:
        """Work that writes, in one transaction. Raises FileProblem, and nothing is written then; Held where another
        process is in the way for longer than `patience_s`."""

    @abstractmethod
    async def _write_in_background(self, work: Callable[[Database], T], patience_s: float = BUSY_S) -> T:
        """A write that lets those of paid calls go first."""

    @abstractmethod
    async def _read(self, work: Callable[[Database], T]) -> T:
        """Work on rows, after those in *sending* whose writer is gone have become *unknown*."""

    @abstractmethod
    async def _glance(self, work: Callable[[Database], T], key: Hashable = None) -> T:
        """A read of a few rows. What was read under a `key` may be kept until anything is written."""

    @abstractmethod
    def _check_place(self, db: Database) -> None:
        """Raise FileProblem where nothing may be begun in this ledger any more."""

    @abstractmethod
    def _check_structure(self, db: Database) -> None:
        """Raise FileProblem where the engine finds its own structures damaged."""

    @abstractmethod
    def _hold_writer(self, db: Database) -> str:
        """The id of this process as one that sends; others can tell by it whether it lives."""

    @abstractmethod
    def _abandoned(self, db: Database) -> list[str]:
        """The rows in *sending* whose writer is gone."""

    def _changes(self, db: Database) -> Changes:
        return Changes(db, self._clock())

    def _bury_the_abandoned(self, db: Database) -> None:
        for request_id in self._abandoned(db):
            self._changes(db).move(rows.of_request(db, request_id), "unknown", reason=GONE)

    def _has_newest(self, db: Database) -> Callable[[], bool]:
        """What reads whether the last row that was begun here is there; it is asked for now."""
        if self._newest is None:
            return lambda: True
        asked = db.execute("SELECT 1 FROM videos WHERE number = ? AND request_id = ?", self._newest)
        return lambda: asked.fetchone() is not None
