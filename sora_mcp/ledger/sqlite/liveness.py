"""Who is still writing: each process holds a lock of the operating system for as long as it lives.

Process ids mean nothing across containers, and a process that is killed tidies nothing up; but its
locks are given back at once. The lock is SQLite's own, on a file of one writer's own, so that it is
the same on every platform and for several writers in one process.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sora_mcp.ledger.sqlite.integrity import identity

LONGEST_SENDING_S = 900.0
"""Seconds that no create takes, however long it is waited for (600 at most) and however often it is sent."""


class Writer:
    """One instance that sends: it has a random id, `hold` takes its lock, `release` gives it back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, _Lock] = {}

    def hold(self) -> str:
        """Take the lock, once, and return the id; another of both where the lock's file was taken away.

        Raises sqlite3.Error or OSError where the folder cannot be written.
        """
        for writer_id, lock in self._held.items():
            if lock.is_in_place():
                return writer_id
        writer_id = secrets.token_hex(8)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._held[writer_id] = _Lock(self._folder / writer_id)
        return writer_id

    @property
    def ids(self) -> set[str]:
        """The ids that stand for this instance: none before it sends."""
        return set(self._held)

    def paths(self) -> Iterator[Path]:
        """The files of all writers' locks."""
        return self._folder.glob("*")

    def release(self, kept: set[str]) -> None:
        """Give the lock back and remove its file; those of the ids that are `kept` stay, for others to find free."""
        for writer_id, lock in self._held.items():
            lock.close()
            if writer_id not in kept:
                lock.path.unlink(missing_ok=True)
        self._held = {}

    def is_gone(self, writer_id: str | None, seconds: float) -> bool:
        """Whether the writer of a row that was begun that long ago has ended.

        Where its lock's file was taken away or spoilt nobody can tell, and it is taken to live for as long as a create
        can last. None stands for a writer of before there were locks.
        """
        if writer_id is None or writer_id in self._held:
            return writer_id is None
        path = self._folder / writer_id
        with suppress(sqlite3.Error, OSError):
            if path.is_file():
                return not is_locked(path)
        return not 0 <= seconds <= LONGEST_SENDING_S


class _Lock:
    """A lock on a file that is made for it, until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _locked(path)
        self._identity = identity(path)

    def is_in_place(self) -> bool:
        return identity(self.path) == self._identity

    def close(self) -> None:
        self._connection.close()


def is_locked(path: Path) -> bool:
    """Whether a process that lives holds the lock on `path`. Raises sqlite3.Error where it is none."""
    try:
        _locked(path).close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return True
    return False


def _locked(path: Path) -> sqlite3.Connection:
    """An exclusive lock on `path`, held until it is closed. Raises OperationalError where another holds it."""
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("BEGIN EXCLUSIVE")
    except BaseException:
        db.close()
        raise
    return db
