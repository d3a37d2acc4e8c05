"""Makes way for a new ledger in place of a lost one: what is left of the old one is set aside."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sora_mcp.core.advice import AskUser, Do, Setting
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.sqlite.integrity import database_files, writer_locks
from sora_mcp.ledger.sqlite.liveness import is_locked

_SQLITE_LOCKS = 0x40000000, 512
"""Bytes of the file that SQLite locks, as their first and their number."""
_INDEX_LOCKS = 120, 9
"""The same of its index: https://www.sqlite.org/walformat.html, and one that shows whether any process has it open."""


class InUse(FileProblem):
    """A living process has the ledger open."""

    retryable = True

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The ledger {path} is in use: a running server has it open. Nothing was changed.",
            Do("Close every window and client that runs this server, then try again."),
        )


def set_aside(path: Path) -> tuple[Path | None, list[str]]:
    """Move a ledger, and all files beside it, into a new folder beside them.

    Returns that folder and the names of what was moved; None if there was nothing. Raises InUse if a living process
    has it open, or FileProblem if something cannot be moved; nothing is moved then.
    """
    files = [each for each in _ledger_files(path) if each.exists() or each.is_symlink()]
    if not files:
        return None, []
    try:
        with exclusive_use(path):
            folder = _new_folder(path.parent)
            _move(files, folder)
    except OSError as error:
        message = f"The ledger {path} cannot be moved ({error.strerror}). Nothing was moved."
        raise FileProblem(
            message, AskUser(("check that folder (setting ", Setting("home"), "): it must be writable"))
        ) from error
    return folder, [each.name for each in files]


def _ledger_files(path: Path) -> list[Path]:
    return [*database_files(path), path.with_name(f"{path.name}-journal"), path.with_name("writers")]


def _new_folder(home: Path) -> Path:
    """Create a folder named after the time."""
    name = f"ledger-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"
    for number in range(1, 100):
        folder = home / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder
    raise FileExistsError(None, "there are too many folders of this name")


def _move(parts: list[Path], folder: Path) -> None:
    """Move all of them or none."""
    with ExitStack() as on_failure:
        on_failure.callback(folder.rmdir)
        for each in parts:
            each.rename(folder / each.name)
            on_failure.callback((folder / each.name).rename, each)
        on_failure.pop_all()


@contextmanager
def exclusive_use(path: Path) -> Iterator[None]:
    """Hold SQLite's own locks, so that no process begins to use the ledger. Raises InUse.

    Not through SQLite, which would delete the log of a file that was emptied. For a process that has not opened it.
    """
    if any(map(_is_in_use, writer_locks(path))):
        raise InUse(path)
    with ExitStack() as locks:
        file, _, index = database_files(path)
        for each, (first, number) in ((file, _SQLITE_LOCKS), (index, _INDEX_LOCKS)):
            if each.is_file() and not _lock(each, first, number, locks.callback):
                raise InUse(path)
        yield


def _is_in_use(lock: Path) -> bool:
    try:
        return lock.is_file() and is_locked(lock)
    except sqlite3.Error:
        return False  # no lock: it was overwritten


def _lock(path: Path, first: int, number: int, on_exit: Callable[..., object]) -> bool:
    """Lock bytes of a file until `on_exit`, and return whether that succeeded. On Windows a file in use cannot be moved
    anyway."""
    if os.name == "nt":
        return True
    import fcntl  # noqa: PLC0415 - not on Windows

    file = os.open(path, os.O_RDWR)
    on_exit(os.close, file)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, number, first)
    except (BlockingIOError, PermissionError):
        return False
    return True
