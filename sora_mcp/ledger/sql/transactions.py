"""What the ledger's methods need of an engine: reads, writes, a clock, and who is still sending."""

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

BUSY_S = 10.0
"""Seconds to wait for another process that holds what is to be written, where that matters."""
LINE_S = 30.0
"""The same at most where others hold it one after another: they get on, and so will this one."""
BRIEFLY_S = 0.2
"""The same where it can be done later, or by others."""

GONE = "whatever was sending it ended, or lost the ledger, before the gateway's answer was recorded"


class Held(FileProblem):
    """Another process holds the ledger, and may do so for long: one that was stopped, perhaps."""

    retryable = True


class OlderRelease(Held):
    """A process of an older release is in the middle of a POST: until it has recorded the answer, the ledger stays as
    it is. `what`: runs that release."""

    def __init__(self, what: str = "window") -> None:
        super().__init__(
            f"Another {what} runs an older release, which is in the middle of a create.",
            TryAgain(60),
            AskUser(f"restart the other {what}s"),
        )


class Admission:
    """Admission of the paid calls of one process: one at a time is recorded, in the order in which they came.

    A server that is stopped, or a ledger that is held, keeps those in line waiting: none of them for long.
    """

    def __init__(self) -> None:
        self._turn = anyio.Semaphore(1, fast_acquire=True)
        self._waiting: dict[anyio.CancelScope, float] = {}
        """Those who wait, and until when they do at most."""

    @asynccontextmanager
    async def turn(self, why_not: Callable[[], FileProblem]) -> AsyncIterator[None]:
        """Wait while those before get on. Raises `why_not` where none of them did for BUSY_S, and after LINE_S."""
        if not await self._has_come():
            raise why_not()
        try:
            yield
        except OverCap:
            self._let_others_wait_on()
            raise
        else:
            self._let_others_wait_on()
        finally:
            self._turn.release()

    async def _has_come(self) -> bool:
        with anyio.move_on_after(BUSY_S) as wait:
            self._waiting[wait] = anyio.current_time() + LINE_S
            try:
                await self._turn.acquire()
            finally:
                del self._waiting[wait]
            return True
        return False

    def _let_others_wait_on(self) -> None:
        for wait, until in self._waiting.items():
            wait.deadline = min(anyio.current_time() + BUSY_S, until)


class Footing(NamedTuple):
    """What has to be known before something is begun.

    `abandoned`: the rows in *sending* whose writer is gone. `writer`: gives the id of this process as one that sends,
    by which others can tell whether it lives.
    """

    abandoned: list[str]
    writer: Callable[[], str]


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
    def _busy(self) -> FileProblem:
        """What to say where the ledger is held, so that paid calls before this one do not get on."""

    @abstractmethod
    def _footing(self, db: Database) -> Callable[[], Footing]:
        """What reads on what something is begun here; it is asked for now. It raises FileProblem where nothing may be
        begun in this ledger any more."""

    @abstractmethod
    def _check_structure(self, db: Database) -> None:
        """Raise FileProblem where the engine finds its own structures damaged."""

    @abstractmethod
    def _abandoned(self, db: Database) -> list[str]:
        """The rows in *sending* whose writer is gone."""

    def _changes(self, db: Database) -> Changes:
        return Changes(db, self._clock())

    def _bury_the_abandoned(self, db: Database) -> None:
        self._bury(db, self._abandoned(db))

    def _bury(self, db: Database, request_ids: list[str]) -> None:
        for request_id in request_ids:
            self._changes(db).move(rows.of_request(db, request_id), "unknown", reason=GONE)
