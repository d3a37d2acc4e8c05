"""Who is still writing: each process holds a lock of the operating system for as long as it lives.

Process ids mean nothing across containers, and a process that is killed tidies nothing up; but its
locks are given back at once. The lock is SQLite's own, on a file of one writer's own, so that it is
the same on every platform and for several writers in one process.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path


class Writer:
    """One instance that sends: `id` is random, `hold` takes its lock, `release` gives it back."""

    def __init__(self, folder: Path) -> None:
        self.id = secrets.token_hex(8)
        self._folder = folder
        self._lock: sqlite3.Connection | None = None

    def hold(self) -> None:
        """Take the lock, once. Raises sqlite3.Error or OSError where the folder cannot be written."""
        if self._lock is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _locked(self._folder / self.id)

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            (self._folder / self.id).unlink(missing_ok=True)

    def is_alive(self, writer_id: str | None) -> bool:
        """Whether the writer with that id still lives; None stands for one of before there were locks."""
        if writer_id == self.id:
            return True
        path = self._folder / (writer_id or "")
        if writer_id is None or not path.is_file():
            return False
        try:
            _locked(path).close()
        except sqlite3.OperationalError:
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
