"""Tells which writers live: each process holds a lock of the operating system for as long as it lives.

Process ids mean nothing across containers, and a process that is killed cleans nothing up, but its locks are released
at once. The lock is SQLite's own, on a file for each writer, so that it is the same on every platform and for several
writers in one process.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sora_mcp.ledger.sqlite.integrity import identity

MAX_SENDING_S = 900.0
"""Seconds that no create exceeds, however long its answer takes (600 at most) and however often it is sent."""


class Writer:
    """One instance that sends, with a random id: `acquire` takes its lock, `release` releases it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, _Lock] = {}

    def acquire(self) -> str:
        """Take the lock, once, and return the id; both are new if the lock's file was removed.

        Raises sqlite3.Error or OSError if the folder cannot be written.
        """
        for writer_id, lock in self._locks.items():
            if lock.is_in_place():
                return writer_id
        writer_id = secrets.token_hex(8)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._locks[writer_id] = _Lock(self._folder / writer_id)
        return writer_id

    @property
    def ids(self) -> set[str]:
        """The ids of this instance; none before it sends."""
        return set(self._locks)

    def paths(self) -> Iterator[Path]:
        """Return the files of all writers' locks."""
        return self._folder.glob("*")

    def release(self, still_sending: set[str]) -> None:
        """Release the locks and remove their files, except of the ids `still_sending`: others must find those free."""
        for writer_id, lock in self._locks.items():
            lock.close()
            if writer_id not in still_sending:
                lock.path.unlink(missing_ok=True)
        self._locks = {}

    def has_ended(self, writer_id: str | None, seconds: float) -> bool:
        """Return whether the writer of a row that was begun `seconds` ago has ended.

        If its lock's file was removed or corrupted that is unknown, and the writer counts as living for as long as a
        create can take. None is a writer from before there were locks.
        """
        if writer_id is None or writer_id in self._locks:
            return writer_id is None
        path = self._folder / writer_id
        with suppress(sqlite3.Error, OSError):
            if path.is_file():
                return not is_locked(path)
        return not 0 <= seconds <= MAX_SENDING_S


class _Lock:
    """A lock on a file that is created for it, held until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _acquire_lock(path)
        self._identity = identity(path)

    def is_in_place(self) -> bool:
        return identity(self.path) == self._identity

    def close(self) -> None:
        self._connection.close()


def is_locked(path: Path) -> bool:
    """Return whether a living process holds the lock on `path`. Raises sqlite3.Error if the file is no lock."""
    try:
        _acquire_lock(path).close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return True
    return False


def _acquire_lock(path: Path) -> sqlite3.Connection:
    """Lock `path` exclusively until the connection is closed. Raises OperationalError if another process holds it."""
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("BEGIN EXCLUSIVE")
    except BaseException:
        db.close()
        raise
    return db
