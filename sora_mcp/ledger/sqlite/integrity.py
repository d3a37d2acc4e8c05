"""Whether the ledger's files are still what was written: nothing is paid for that would be forgotten.

SQLite trusts its files. It goes on writing behind a log that was cut, and loses all of it; it deletes the log of a
file that was emptied. So we look at them before SQLite does, in microseconds, each time.
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
from sora_mcp.ledger.sqlite.wal import CAN_LOOK, Identity, Index, IndexFile, Log

TAKEN_AWAY = "it was removed or replaced while it was in use: put it back, or restart this server"


SPOILT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_IOERR}
"""What SQLite says of a file that is not whole; of one that lost its tables, that there is an error in our words."""


def code_of(error: Exception) -> int | None:
    """The primary code of SQLite's for an error; None for one that is not SQLite's."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


class Malformed(sqlite3.DatabaseError):
    """What the file holds is not what is ever written."""


class Damaged(FileProblem):
    """The ledger was removed, replaced, emptied, cut or overwritten: what was recorded is not there any more.

    What is recorded now may be lost as well, so nothing is.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            ("The ledger", LocalText(f" {path}", ""), f" cannot be used ({what})."),
            AskUser(("put it back as it was (it lies in ", Setting("home"), "), then ", Restart())),
            StartNewLedger(),
        )


def beside(path: Path) -> list[Path]:
    """The file, and those that SQLite keeps beside it: the log and its index."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def identity(path: Path | int) -> Identity | None:
    """What tells a file, or an open one, from any other, whatever its name; None where there is none."""
    try:
        return _identity(os.stat(path))  # noqa: PTH116 - of an open file too
    except FileNotFoundError:
        return None


# --- before SQLite opens it -----------------------------------------------------------------------


def look_before_opening(path: Path) -> bool:
    """Whether somebody has sent something whose record was here. Raises Damaged where traces of an earlier ledger
    stand beside a file that is missing or empty, or where its log was cut while nobody had it open.

    A file is never empty once anything stands beside it, so that of several that make a new one at once none takes the
    others' beginnings for traces: what stands beside it is looked at first.
    """
    _, log, index = beside(path)
    has_writers = bool(writers_beside(path))
    traces = [*(["the folder writers"] if has_writers else []), *(each.name for each in (log, index) if _size(each))]
    has_journal = _size(path.with_name(f"{path.name}-journal")) is not None
    size = _size(path)
    if size is None and has_journal:
        traces.append(f"{path.name}-journal")
    if not size and traces:
        happened = "it was removed" if size is None else "it was emptied"
        raise Damaged(path, f"{happened}: {' and '.join(traces)} beside it show that there was one")
    if CAN_LOOK and size:
        _check_log_at_rest(path, log, index)
    return has_writers


def is_there(path: Path) -> bool:
    """Whether there is a ledger, or what is left of one."""
    return any(_size(each) is not None for each in beside(path)) or bool(writers_beside(path))


def writers_beside(path: Path) -> list[Path]:
    """The locks of all that are sending, or were killed while they were there."""
    try:
        return [each for each in path.with_name("writers").iterdir() if re.fullmatch("[0-9a-f]{16}", each.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


_TRIES = 5
"""How often it is looked whether what an index says and what a log holds belong together: others may be writing."""


def _check_log_at_rest(path: Path, log_path: Path, index_path: Path) -> None:
    try:
        index_file = IndexFile(index_path)
    except OSError:
        return  # SQLite makes another one from what is in the log
    with closing(index_file), suppress(EOFError):  # it is just being made
        for _ in range(_TRIES):
            index = index_file.read()
            if index is None or index.copied >= index.frames:
                return
            what = _lost_at_rest(log_path, index)
            again = index_file.read()
            if what is None or again is None or again.copied >= again.frames:
                return
            if again.header == index.header:
                raise Damaged(path, what)


def _lost_at_rest(log_path: Path, index: Index) -> str | None:
    try:
        with closing(Log(log_path)) as log:
            if log.holds(index) or log.is_behind(index):
                return None
    except FileNotFoundError:
        return f"{log_path.name} beside it was removed"
    return _what_became(log_path, index)


def _what_became(log_path: Path, index: Index) -> str:
    size = _size(log_path)
    happened = "overwritten"
    if not size:
        happened = "emptied" if size == 0 else "removed"
    elif size < index.end_of(index.frames):
        happened = "cut"
    return f"{log_path.name} beside it was {happened}"


# --- while it is open -----------------------------------------------------------------------------


_Stamp = tuple[int, int]
"""What changes when a file is written to: its size, and when that was done."""


class _Known(NamedTuple):
    """The files as they were when it was last sure that SQLite had written them."""

    counted: Index
    file: _Stamp
    log: _Stamp

    def is_complete(self, logged: set[int]) -> bool:
        """Whether each page stands in the file, or is among the `logged` ones."""
        size = self.counted.page_size
        return not self.counted.frames or logged.issuperset(range(self.file[0] // size + 1, self.counted.pages + 1))


class Changed(Enum):
    """Who has written to the files."""

    NOT = auto()
    BY_SQLITE = auto()
    BY_OTHERS = auto()
    """Or so it seems: another process may be in the middle of writing."""


class Watch:
    """Looks at the files of a ledger that SQLite has open in this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._paths = beside(path)
        self._names = list(map(os.fspath, self._paths))
        self._opened: list[Identity | None] = []
        self._known: _Known | None = None
        self._one_at_a_time = Lock()
        self._index: IndexFile | None = None
        self._log: Log | None = None

    def begin(self, opened: Identity | None) -> None:
        """From now on; SQLite has made all files by now. Raises OSError, or Damaged where it is not the file that was
        to be `opened`, or not whole."""
        self._opened = [opened, *map(identity, self._paths[1:])]
        if CAN_LOOK and None not in self._opened:
            self._log = Log(self._paths[1])
            self._index = IndexFile(self._paths[2])
        self.check()
        self.note()
        if self._known and self._log and not self._known.is_complete(self._log.pages):
            self._check_file()

    def end(self, connections: Iterable[sqlite3.Connection]) -> None:
        """Close SQLite's connections, and what is open here; those to a damaged ledger as `leave_open` does."""
        try:
            if self._opened:
                self.check()
                self.check_content()
        except (Damaged, OSError):
            leave_open(connections)
            return  # to close the index would give back their locks
        for connection in connections:
            connection.close()
        for each in (self._log, self._index):
            if each is not None:
                each.close()

    def check(self) -> _Known | None:
        """What the files look like. Raises Damaged where one is not the one that was opened, was emptied, or where the
        log is not as long as SQLite made it, or not what it wrote."""
        try:
            index, log, file = map(_stat, reversed(self._names))
        except FileNotFoundError:
            raise self._taken_away() from None
        if [_identity(file), _identity(log), _identity(index)] != self._opened:
            raise self._taken_away()
        if not file.st_size:
            raise Damaged(self._path, "it was emptied while it was in use")
        if self._index is None or self._log is None:
            return None
        counted = self._check_log(self._index, self._log)
        return None if counted is None else _Known(counted, _stamp(file), _stamp(log))

    def _taken_away(self) -> Damaged:
        return Damaged(self._path, TAKEN_AWAY)

    def look(self) -> Changed:
        """Who has changed the files since the last look, or `note`. Raises Damaged, as `check` does."""
        was, now = self._known, self.check()
        if now is None or was is None:
            return Changed.BY_SQLITE
        if now == was:
            return Changed.NOT
        if any(self._touched(was, now)):
            return Changed.BY_OTHERS
        self._known = now
        return Changed.BY_SQLITE

    def check_content(self) -> None:
        """Raise Damaged where what was written so has spoilt what the files hold.

        For a transaction that writes: nobody else is in the middle of writing then.
        """
        was, now = self._known, self._look()
        if now is None or was is None:
            return
        is_file_touched, is_log_touched = self._touched(was, now)
        if is_log_touched and self._log is not None and not self._log.is_whole(now.counted):
            raise Damaged(self._path, f"{self._paths[1].name} beside it was overwritten while it was in use")
        if is_file_touched:
            self._check_file()

    def _touched(self, was: _Known, now: _Known) -> tuple[bool, bool]:
        """Whether the file and the log were changed without a trace in the index."""
        is_log_ours = now.counted.header != was.counted.header
        is_file_ours = now.counted.copied != was.counted.copied or now.counted.salts != was.counted.salts
        return now.file != was.file and not is_file_ours, now.log != was.log and not is_log_ours

    def note(self) -> None:
        """What the files look like now is SQLite's doing: for after a transaction that has written."""
        self._known = self._look()

    def _check_log(self, index_file: IndexFile, log: Log) -> Index | None:
        try:
            for _ in range(_TRIES):
                index = index_file.read()
                with self._one_at_a_time:
                    if index is None or log.holds(index):
                        return index
                again = index_file.read()
                if again is not None and again.header == index.header:
                    raise Damaged(self._path, f"{_what_became(self._paths[1], index)} while it was in use")
        except EOFError:
            raise Damaged(self._path, f"{self._paths[2].name} beside it was cut while it was in use") from None
        return None

    def _check_file(self) -> None:
        """By another connection, which has nothing in memory."""
        verdict = ""
        try:
            with closing(sqlite3.connect(self._path, timeout=0)) as fresh:
                verdict = fresh.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            if code_of(error) not in SPOILT:
                raise
        if verdict != "ok":
            raise Damaged(self._path, "it was cut or overwritten while it was in use")

    def _look(self) -> _Known | None:
        with suppress(FileNotFoundError, EOFError):
            index = self._index.read() if self._index is not None else None
            return None if index is None else _Known(index, *(_stamp(_stat(name)) for name in self._names[:2]))
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _stat(name: str) -> os.stat_result:
    return os.stat(name)  # noqa: PTH116 - a Path takes four times as long


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_size, status.st_mtime_ns


# --- at the end -----------------------------------------------------------------------------------


def leave_open(connections: Iterable[sqlite3.Connection]) -> None:
    """Let go of connections to a damaged ledger without what SQLite does when the last one is closed: to copy the log
    into a file that is not what it was, and to delete it. So what is put back finds the rest as it was.
    """
    for connection in connections:
        if sys.version_info >= (3, 12):
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
            connection.close()
        else:
            import ctypes  # noqa: PLC0415 - for damaged ledgers alone

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))  # it is never closed: only the process's end does
