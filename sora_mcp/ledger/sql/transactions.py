"""What the ledger's methods need of an engine: reads, writes, a clock, and the living senders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

import anyio

from sora_mcp.core.advice import AskUser, TryAgain
from sora_mcp.core.caps import OverCap
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.sql import rows
from sora_mcp.ledger.sql.changes import Changes
from sora_mcp.ledger.sql.database import Database

T = TypeVar("T")

BUSY_TIMEOUT_S = 10.0
"""Seconds to wait for another process that has locked what is to be written."""
QUEUE_TIMEOUT_S = 30.0
"""The same if others lock it one after another: they make progress, and so will this one."""
SHORT_TIMEOUT_S = 0.2
"""The same for work that can be done later, or by others."""

ABANDONED_REASON = "whatever was sending it ended, or lost the ledger, before the gateway's answer was recorded"


class LedgerBusy(FileProblem):
    """Another process has locked the ledger, perhaps for long: it may have been stopped."""

    retryable = True


class OlderRelease(LedgerBusy):
    """A process of an older release is in the middle of a POST: the ledger is not migrated before it has recorded the
    answer. `runner`: what runs that release."""

    def __init__(self, runner: str = "window") -> None:
        super().__init__(
            f"Another {runner} runs an older release, which is in the middle of a create.",
            TryAgain(60),
            AskUser(f"restart the other {runner}s"),
        )


class Admission:
    """Admission of the paid calls of one process: one at a time is recorded, in the order of arrival.

    If a server is stopped, or the ledger is locked, the calls in the queue wait, but none of them for long.
    """

    def __init__(self) -> None:
        self._turn = anyio.Semaphore(1, fast_acquire=True)
        self._waits: dict[anyio.CancelScope, float] = {}
        """The waiting calls, and their deadlines."""

    @asynccontextmanager
    async def turn(self, make_error: Callable[[], FileProblem]) -> AsyncIterator[None]:
        """Wait for those before. Raises the error that `make_error` returns if none of them made progress for
        BUSY_TIMEOUT_S, and after QUEUE_TIMEOUT_S."""
        if not await self._wait_for_turn():
            raise make_error()
        try:
            yield
        except OverCap:
            self._extend_waits()
            raise
        else:
            self._extend_waits()
        finally:
            self._turn.release()

    async def _wait_for_turn(self) -> bool:
        with anyio.move_on_after(BUSY_TIMEOUT_S) as wait:
            self._waits[wait] = anyio.current_time() + QUEUE_TIMEOUT_S
            try:
                await self._turn.acquire()
            finally:
                del self._waits[wait]
            return True
        return False

    def _extend_waits(self) -> None:
        for wait, deadline in self._waits.items():
            wait.deadline = min(anyio.current_time() + BUSY_TIMEOUT_S, deadline)


class Preconditions(NamedTuple):
    """What has to be known before a request is begun.

    `abandoned`: the rows in *sending* whose writer has ended. `writer`: returns this process's id as a sender, by which
    others can tell whether it lives.
    """

    abandoned: list[str]
    writer: Callable[[], str]


class Transactions(ABC):
    """The transactions of an engine. Their work may run again if the first attempt failed, so it must change nothing
    but the database."""

    _newest: tuple[int, str] | None = None
    """Number and request id of the last row that was begun here."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    @abstractmethod
    async def _write(self, work: Callable[[Database], T], timeout_s: float = BUSY_TIMEOUT_S) -> T:
        """Run work that writes in one transaction. Raises FileProblem, and nothing is written then; LedgerBusy if
        another process blocks it for longer than `timeout_s`."""

    @abstractmethod
    async def _write_in_background(self, work: Callable[[Database], T], timeout_s: float = BUSY_TIMEOUT_S) -> T:
        """Write, but let the writes of paid calls go first."""

    @abstractmethod
    async def _read(self, work: Callable[[Database], T]) -> T:
        """Run work that reads, after rows in *sending* whose writer has ended have become *unknown*."""

    @abstractmethod
    async def _quick_read(self, work: Callable[[Database], T], key: Hashable = None) -> T:
        """Read a few rows. What was read under a `key` may be cached until anything is written."""

    @abstractmethod
    def _busy_error(self) -> FileProblem:
        """Return the error for a paid call whose predecessors make no progress because the ledger is locked."""

    @abstractmethod
    def _query_preconditions(self, db: Database) -> Callable[[], Preconditions]:
        """Query now what has to be known before a request is begun, and return a function that reads it. That function
        raises FileProblem if nothing may be begun in this ledger any more."""

    @abstractmethod
    def _check_structure(self, db: Database) -> None:
        """Raise FileProblem if the engine finds its own structures damaged."""

    @abstractmethod
    def _abandoned(self, db: Database) -> list[str]:
        """Return the request ids of rows in *sending* whose writer has ended."""

    def _changes(self, db: Database) -> Changes:
        return Changes(db, self._clock())

    def _mark_abandoned_unknown(self, db: Database) -> None:
        self._mark_unknown(db, self._abandoned(db))

    def _mark_unknown(self, db: Database, request_ids: list[str]) -> None:
        for request_id in request_ids:
            self._changes(db).move(rows.get_by_request(db, request_id), "unknown", reason=ABANDONED_REASON)
