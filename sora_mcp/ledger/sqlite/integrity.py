"""Checks that the ledger's files are still what was written, so that nothing is paid for and then forgotten.

SQLite trusts its files. It goes on writing behind a log that was cut, and loses all of it; it deletes the log of a
file that was emptied. So we check them before SQLite reads them, each time, in microseconds.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from enum import Enum, auto
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from sora_mcp.core.advice import AskUser, LocalText, Restart, Setting, StartNewLedger
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.sqlite.wal import CAN_INSPECT, Identity, Index, IndexFile, Log

REMOVED_OR_REPLACED = "it was removed or replaced while it was in use: put it back, or restart this server"


CORRUPTION_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_IOERR}
"""SQLite's codes for a file that is not whole; for one that lost its tables it reports an error in our SQL."""


def sqlite_code(error: Exception) -> int | None:
    """Return SQLite's primary code of an error, or None if it is not SQLite's."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


class Malformed(sqlite3.DatabaseError):
    """The file's content is none that is ever written."""


class Damaged(FileProblem):
    """The ledger was removed, replaced, emptied, cut or overwritten: what was recorded is lost.

    New records may be lost as well, so none are written.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            ("The ledger", LocalText(f" {path}", ""), f" cannot be used ({problem})."),
            AskUser(("put it back as it was (it lies in ", Setting("home"), "), then ", Restart())),
            StartNewLedger(),
        )


def database_files(path: Path) -> list[Path]:
    """Return the file, and SQLite's files beside it: the log and its index."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def identity(path: Path | int) -> Identity | None:
    """Return what identifies a file, or an open one, whatever its name; None if it does not exist."""
    try:
        return _identity(os.stat(path))  # noqa: PTH116 - of an open file too
    except FileNotFoundError:
        return None


# --- before SQLite opens it -----------------------------------------------------------------------


def check_before_opening(path: Path) -> bool:
    """Return whether the ledger was ever used to send something. Raises Damaged if traces of an earlier ledger
    are beside a file that is missing or empty, or if its log was cut while no process had it open.

    A file is never empty once other files are beside it. The files beside it are checked first, so that of several
    processes that create a ledger at once none mistakes the others' new files for traces.
    """
    _, log, index = database_files(path)
    has_writers = bool(writer_locks(path))
    traces = [*(["the folder writers"] if has_writers else []), *(each.name for each in (log, index) if _size(each))]
    has_journal = _size(path.with_name(f"{path.name}-journal")) is not None
    size = _size(path)
    if size is None and has_journal:
        traces.append(f"{path.name}-journal")
    if not size and traces:
        event = "it was removed" if size is None else "it was emptied"
        raise Damaged(path, f"{event}: {' and '.join(traces)} beside it show that there was one")
    if CAN_INSPECT and size:
        _check_log_at_rest(path, log, index)
    return has_writers


def ledger_exists(path: Path) -> bool:
    """Return whether there is a ledger, or what is left of one."""
    return any(_size(each) is not None for each in database_files(path)) or bool(writer_locks(path))


def writer_locks(path: Path) -> list[Path]:
    """Return the locks of all writers that live, or were killed."""
    try:
        return [each for each in path.with_name("writers").iterdir() if re.fullmatch("[0-9a-f]{16}", each.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


_MAX_TRIES = 5
"""How often index and log are compared before they count as different: others may be writing."""


def _check_log_at_rest(path: Path, log_path: Path, index_path: Path) -> None:
    try:
        index_file = IndexFile(index_path)
    except OSError:
        return  # SQLite makes another one from what is in the log
    with closing(index_file), suppress(EOFError):  # it is just being made
        for _ in range(_MAX_TRIES):
            index = index_file.read()
            if index is None or index.copied >= index.frames:
                return
            problem = _log_damage(log_path, index)
            again = index_file.read()
            if problem is None or again is None or again.copied >= again.frames:
                return
            if again.header == index.header:
                raise Damaged(path, problem)


def _log_damage(log_path: Path, index: Index) -> str | None:
    try:
        with closing(Log(log_path)) as log:
            if log.matches(index) or log.was_restarted_after(index):
                return None
    except FileNotFoundError:
        return f"{log_path.name} beside it was removed"
    return _describe_damage(log_path, index)


def _describe_damage(log_path: Path, index: Index) -> str:
    size = _size(log_path)
    event = "overwritten"
    if not size:
        event = "emptied" if size == 0 else "removed"
    elif size < index.frame_end(index.frames):
        event = "cut"
    return f"{log_path.name} beside it was {event}"


# --- while it is open -----------------------------------------------------------------------------


_Stamp = tuple[int, int]
"""What changes when a file is written to: its size, and when that was done."""


class _Snapshot(NamedTuple):
    """The files as they were when SQLite was last known to have written them."""

    log_index: Index
    file: _Stamp
    log: _Stamp

    def is_complete(self, logged_pages: set[int]) -> bool:
        """Return whether each page is in the file, or among the `logged_pages`."""
        size = self.log_index.page_size
        return not self.log_index.frames or logged_pages.issuperset(
            range(self.file[0] // size + 1, self.log_index.pages + 1)
        )


class ChangedBy(Enum):
    """Who has written to the files."""

    NOBODY = auto()
    SQLITE = auto()
    OTHERS = auto()
    """Apparently: another process may be in the middle of writing."""


class Watch:
    """Watches the files of a ledger that SQLite has open in this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._paths = database_files(path)
        self._names = list(map(os.fspath, self._paths))
        self._opened: list[Identity | None] = []
        self._last: _Snapshot | None = None
        self._log_lock = Lock()
        self._index: IndexFile | None = None
        self._log: Log | None = None

    def begin(self, opened: Identity | None) -> None:
        """Start watching, once SQLite has created all files. Raises OSError, or Damaged if the file is not the one that
        was to be `opened`, or not whole."""
        self._opened = [opened, *map(identity, self._paths[1:])]
        if CAN_INSPECT and None not in self._opened:
            self._log = Log(self._paths[1])
            self._index = IndexFile(self._paths[2])
        self.check()
        self.accept_changes()
        if self._last and self._log and not self._last.is_complete(self._log.pages):
            self._check_file()

    def end(self, connections: Iterable[sqlite3.Connection]) -> None:
        """Close SQLite's connections and the files that are open here; for a damaged ledger see `leave_open`."""
        try:
            if self._opened:
                self.check()
                self.check_content()
        except (Damaged, OSError):
            leave_open(connections)
            return  # closing the index would release their locks
        for connection in connections:
            connection.close()
        for each in (self._log, self._index):
            if each is not None:
                each.close()

    def check(self) -> _Snapshot | None:
        """Return the state of the files. Raises Damaged if one is not the one that was opened, if it was emptied, or if
        the log is shorter than SQLite made it, or not what it wrote."""
        try:
            index, log, file = map(_stat, reversed(self._names))
        except FileNotFoundError:
            raise self._removed_error() from None
        if [_identity(file), _identity(log), _identity(index)] != self._opened:
            raise self._removed_error()
        if not file.st_size:
            raise Damaged(self._path, "it was emptied while it was in use")
        if self._index is None or self._log is None:
            return None
        log_index = self._check_log(self._index, self._log)
        return None if log_index is None else _Snapshot(log_index, _stamp(file), _stamp(log))

    def _removed_error(self) -> Damaged:
        return Damaged(self._path, REMOVED_OR_REPLACED)

    def poll(self) -> ChangedBy:
        """Return who has changed the files since `poll` or `accept_changes` ran. Raises Damaged as `check` does."""
        was, now = self._last, self.check()
        if now is None or was is None:
            return ChangedBy.SQLITE
        if now == was:
            return ChangedBy.NOBODY
        if any(self._changed_outside_sqlite(was, now)):
            return ChangedBy.OTHERS
        self._last = now
        return ChangedBy.SQLITE

    def check_content(self) -> None:
        """Raise Damaged if writes of others have corrupted the files.

        For a transaction that writes: no other process is in the middle of writing then.
        """
        was, now = self._last, self._snapshot()
        if now is None or was is None:
            return
        is_file_changed, is_log_changed = self._changed_outside_sqlite(was, now)
        if is_log_changed and self._log is not None and not self._log.is_whole(now.log_index):
            raise Damaged(self._path, f"{self._paths[1].name} beside it was overwritten while it was in use")
        if is_file_changed:
            self._check_file()

    def _changed_outside_sqlite(self, was: _Snapshot, now: _Snapshot) -> tuple[bool, bool]:
        """Return whether the file and the log were changed without a trace in the index."""
        is_log_by_sqlite = now.log_index.header != was.log_index.header
        is_file_by_sqlite = now.log_index.copied != was.log_index.copied or now.log_index.salts != was.log_index.salts
        return now.file != was.file and not is_file_by_sqlite, now.log != was.log and not is_log_by_sqlite

    def accept_changes(self) -> None:
        """Accept the files' current state as SQLite's, after a transaction that has written."""
        self._last = self._snapshot()

    def _check_log(self, index_file: IndexFile, log: Log) -> Index | None:
        try:
            for _ in range(_MAX_TRIES):
                index = index_file.read()
                with self._log_lock:
                    if index is None or log.matches(index):
                        return index
                again = index_file.read()
                if again is not None and again.header == index.header:
                    raise Damaged(self._path, f"{_describe_damage(self._paths[1], index)} while it was in use")
        except EOFError:
            raise Damaged(self._path, f"{self._paths[2].name} beside it was cut while it was in use") from None
        return None

    def _check_file(self) -> None:
        """Check the file with another connection, which has nothing in memory."""
        verdict = ""
        try:
            with closing(sqlite3.connect(self._path, timeout=0)) as connection:
                verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            if sqlite_code(error) not in CORRUPTION_CODES:
                raise
        if verdict != "ok":
            raise Damaged(self._path, "it was cut or overwritten while it was in use")

    def _snapshot(self) -> _Snapshot | None:
        with suppress(FileNotFoundError, EOFError):
            index = self._index.read() if self._index is not None else None
            return None if index is None else _Snapshot(index, *(_stamp(_stat(name)) for name in self._names[:2]))
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _stat(name: str) -> os.stat_result:
    return os.stat(name)  # noqa: PTH116 - a Path takes four times as long


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_size, status.st_mtime_ns


# --- at the end -----------------------------------------------------------------------------------


def leave_open(connections: Iterable[sqlite3.Connection]) -> None:
    """Drop connections to a damaged ledger without what SQLite does when the last one is closed: to copy the log
    into a file that is not what it was, and to delete it. So what is put back finds the rest as it was.
    """
    for connection in connections:
        if sys.version_info >= (3, 12):
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
            connection.close()
        else:
            import ctypes  # noqa: PLC0415 - for damaged ledgers alone

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))  # it is never closed: only the process's end does
