"""A file that only its user may read: reread whenever it changes, written atomically, under a lock."""

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

from sora_mcp.config.documents import InvalidDocument, parse, serialize
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem

MAX_BYTES = 5_000_000
"""A larger file counts as damaged."""
LOCK_TIMEOUT_S = 10.0
"""How long a writer waits for another one."""
Stamp = tuple[int, ...]
"""A value that changes whenever the file does, even if only its permissions do, or it is replaced."""


class PrivateFile:
    """One JSON document, `{"format": 1, …}`, of mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamp(self) -> Stamp | None:
        """Return the file's current stamp, or None if there is no file. Raises FileProblem."""
        try:
            return _stamp(self.path.stat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.problem(f"cannot be read ({error.strerror})") from None

    def check_current(self) -> None:
        """Do nothing: a file is checked at every use."""

    def read(self) -> dict[str, Any]:
        """Return the document without its `format`, empty if there is no file.

        Raises FileProblem if it is damaged, or if other users may read or write it.
        """
        text = self._read_text()
        if text is None:
            return {}
        try:
            return parse(text)
        except InvalidDocument as error:
            raise self.problem(str(error)) from None

    def _read_text(self) -> str | None:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
                raise self.problem("is not a regular file")
            with self.path.open("rb") as file:
                self._check_permissions(os.fstat(file.fileno()))
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.problem(f"cannot be read ({error.strerror})") from None
        if len(content) > MAX_BYTES:
            raise self.problem(f"is larger than {MAX_BYTES // 1_000_000} MB")
        return content.decode("utf-8", "replace")

    def _check_permissions(self, status: os.stat_result) -> None:
        if os.name == "nt":  # no permission bits there
            return
        if status.st_uid not in {os.geteuid(), 0}:
            raise self.problem("belongs to another user", "Change its owner to whoever runs the server.")
        if not status.st_mode & stat.S_IRUSR:  # root could read it nevertheless
            raise self.problem("cannot be read", f"Run: chmod 600 {self.path}")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise self.problem("is open to other users", f"Run: chmod 600 {self.path}")

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Yield the document to be changed in place; write it unless an exception is raised. Raises FileProblem."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self.path.with_suffix(".lock")):
                document = self.read()
                yield document
                replace(self.path, serialize(document))
        except LockTimeout:
            raise self.problem("cannot be locked: another process has locked it", "Try again.") from None
        except OSError as error:
            raise self.problem(f"cannot be written ({error.strerror})") from None

    def set_aside(self) -> Path | None:
        """Rename the file so that nothing reads it any more; return its new path, or None if there is no file."""
        aside = self.path.with_name(f"{self.path.name}.imported")
        try:
            self.path.replace(aside)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.problem(f"cannot be renamed ({error.strerror})", "Rename it yourself.") from None
        return aside

    def problem(self, reason: str, advice: str = "") -> FileProblem:
        """Build the error for a problem with this file."""
        way_out = advice or "Repair it, or move it away to start with an empty file."
        return FileProblem(f"{self.path} {reason}.", Do(way_out))


class PrivateFiles:
    """The documents of a single server: files in `home`, each named after its document."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def named(self, name: str) -> PrivateFile:
        return PrivateFile(self._home / f"{name}.json")

    def now(self) -> float:
        return time.time()

    def close(self) -> None:
        """Do nothing: no file stays open."""


class LockTimeout(Exception):
    """Another process has held a lock for LOCK_TIMEOUT_S."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file. Raises LockTimeout if another process keeps it for too long.

    The lock is SQLite's: the same on every system, and released if the process dies. A read-only file would lock nobody
    out: OSError.
    """
    if path.exists() and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, f"{path.name} beside it belongs to another user")
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None)))
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            raise LockTimeout from None
        yield


def replace(path: Path, text: str) -> None:
    """Write a file of mode 0600 atomically; through a link, its target. Raises OSError."""
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
