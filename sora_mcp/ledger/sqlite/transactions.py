"""How the ledger's parts reach the file: reads, writes, and what every one of them looks after."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.sqlite import rows
from sora_mcp.ledger.sqlite.changes import Changes
from sora_mcp.ledger.sqlite.file import BRIEFLY_S, BUSY_S, File, Held
from sora_mcp.ledger.sqlite.integrity import identity
from sora_mcp.ledger.sqlite.liveness import Writer

T = TypeVar("T")

GONE = "the process that was sending it ended before the gateway's answer was recorded"


class Transactions:
    """The file at `path`, opened, and made, at first use. Writes and long reads run in a worker thread."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._file = File(path, self._nobody_sends)
        self._clock = clock
        self._one_at_a_time = anyio.CapacityLimiter(1)
        self._in_background = anyio.CapacityLimiter(1)
        self._writer = Writer(path.parent / "writers")

    def close(self) -> None:
        mine = sending = self._writer.ids
        if mine:
            with suppress(FileProblem):
                sending = {writer for _, writer, _ in self._file.transact("BEGIN", rows.sending) if writer is not None}
        self._writer.release(kept=mine & sending)
        self._file.close()

    def owns(self, path: Path | int) -> bool:
        # To open one of them and close it again gives back the locks that this process holds on it (POSIX).
        asked = identity(path)
        return asked is not None and asked in map(identity, (*self._file.paths, *self._writer.paths()))

    def exists(self) -> bool:
        return self._file.exists()

    def _changes(self, db: sqlite3.Connection) -> Changes:
        return Changes(db, self._clock())

    async def _write(self, work: Callable[[sqlite3.Connection], T], patience_s: float = BUSY_S) -> T:
        write = partial(self._file.transact, "BEGIN IMMEDIATE", work, patience_s)
        return await anyio.to_thread.run_sync(write, limiter=self._one_at_a_time)

    async def _write_in_background(self, work: Callable[[sqlite3.Connection], T], patience_s: float = BUSY_S) -> T:
        """A write that lets those of paid calls go first: of all such writes one at most stands before them."""
        async with self._in_background:
            return await self._write(work, patience_s)

    async def _glance(self, work: Callable[[sqlite3.Connection], T], key: Hashable = None) -> T:
        """A read of a few rows, in the event loop's own thread: in WAL it waits for nobody, and handing it to a worker
        costs eight times as much. Where anything is in the way, a worker reads."""
        with suppress(sqlite3.Error, OSError):
            return self._file.glance(work, key)
        return await self._read(work)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await anyio.to_thread.run_sync(self._look, work, limiter=self._one_at_a_time)

    def _look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Work on rows, after those in *sending* whose writer is gone have become *unknown*."""
        if self._file.transact("BEGIN", self._abandoned):
            with suppress(Held):  # they stay as they are until it can be written
                self._file.transact("BEGIN IMMEDIATE", self._bury_the_abandoned, BRIEFLY_S)
        return self._file.transact("BEGIN", work)

    def _abandoned(self, db: sqlite3.Connection) -> list[str]:
        """The rows in *sending* whose writer is gone."""
        return [request_id for request_id, is_gone in self._sending(db) if is_gone]

    def _bury_the_abandoned(self, db: sqlite3.Connection) -> None:
        for request_id in self._abandoned(db):
            self._changes(db).move(rows.of_request(db, request_id), "unknown", reason=GONE)

    def _nobody_sends(self, db: sqlite3.Connection) -> bool:
        return all(is_gone for _, is_gone in self._sending(db))

    def _sending(self, db: sqlite3.Connection) -> Iterator[tuple[str, bool]]:
        """The rows in *sending*, and whether their writers are gone."""
        now = self._clock()
        for request_id, writer, since in rows.sending(db):
            yield request_id, self._writer.is_gone(writer, now - since)
