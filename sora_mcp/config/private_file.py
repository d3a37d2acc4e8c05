"""A file that only its user may read: read again whenever it changes, written whole or not at all, under a lock."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from sora_mcp.config.documents import Unreadable, parse, text_of
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem

LARGEST = 5_000_000
"""Bytes that are read; a larger file counts as damaged."""
LOCKED_WITHIN_S = 10.0
"""Seconds that a writer waits for another one."""
Stamp = tuple[int, ...]
"""What changes whenever a file does: also where it is replaced, or its permissions change."""


class PrivateFile:
    """One JSON document, `{"format": 1, …}`, of mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamp(self) -> Stamp | None:
        """How the file stands now; None where there is none. Raises FileProblem."""
        try:
            return _stamp(self.path.stat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.problem(f"cannot be looked at ({error.strerror})") from None

    def check_current(self) -> None:
        """A file is looked at whenever it is used."""

    def read(self) -> dict[str, Any]:
        """The document without its `format`, empty where there is no file.

        Raises FileProblem where it is damaged, or where anybody but its user may read or write it.
        """
        text = self._text()
        if text is None:
            return {}
        try:
            return parse(text)
        except Unreadable as error:
            raise self.problem(str(error)) from None

    def _text(self) -> str | None:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for whoever writes to it
                raise self.problem("is no ordinary file")
            with self.path.open("rb") as file:
                self._check(os.fstat(file.fileno()))
                content = file.read(LARGEST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.problem(f"cannot be read ({error.strerror})") from None
        if len(content) > LARGEST:
            raise self.problem(f"is larger than {LARGEST // 1_000_000} MB")
        return content.decode("utf-8", "replace")

    def _check(self, status: os.stat_result) -> None:
        if os.name == "nt":  # permissions are no bits there
            return
        if status.st_uid not in {os.geteuid(), 0}:
            raise self.problem("belongs to another user", "Make it belong to whoever runs the server.")
        if not status.st_mode & stat.S_IRUSR:  # the superuser could read it nevertheless
            raise self.problem("cannot be read", f"Run: chmod 600 {self.path}")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise self.problem("is open to other users", f"Run: chmod 600 {self.path}")

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """The document, to be changed in place; it is written where nothing was raised. Raises FileProblem."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self.path.with_suffix(".lock")):
                document = self.read()
                yield document
                replace(self.path, text_of(document))
        except Locked:
            raise self.problem("cannot be locked: another process holds it", "Try again.") from None
        except OSError as error:
            raise self.problem(f"cannot be written ({error.strerror})") from None

    def set_aside(self) -> Path | None:
        """Rename it, so that nothing reads it any more; what it is called then, None where there is none."""
        aside = self.path.with_name(f"{self.path.name}.imported")
        try:
            self.path.replace(aside)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.problem(f"cannot be renamed ({error.strerror})", "Rename it yourself.") from None
        return aside

    def problem(self, wrong: str, advice: str = "") -> FileProblem:
        """What is wrong with the file, as an error."""
        way_out = advice or "Mend it, or move it away: then it is empty, and is made anew at the next addition."
        return FileProblem(f"{self.path} {wrong}.", Do(way_out))


class PrivateFiles:
    """The documents of a server that has them to itself: files below `home`, each named after its document."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.place = str(home)

    def named(self, name: str) -> PrivateFile:
        return PrivateFile(self._home / f"{name}.json")

    def now(self) -> float:
        return time.time()

    def close(self) -> None:
        """No file stays open."""


class Locked(Exception):
    """Another process holds a lock."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all processes that lock this file. Raises Locked where one of them holds it for too long.

    The lock is SQLite's own: the same on every system, and given back where the process dies. A file that may only be
    read locks nobody out: OSError.
    """
    if path.exists() and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, f"{path.name} beside it belongs to another user")
    with ExitStack() as held:
        try:
            lock = held.enter_context(closing(sqlite3.connect(path, timeout=LOCKED_WITHIN_S, isolation_level=None)))
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            raise Locked from None
        yield


def replace(path: Path, text: str) -> None:
    """Put a file of mode 0600 in place, whole or not at all; of a link, what it leads to. Raises OSError."""
    target = path.resolve()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # of mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
