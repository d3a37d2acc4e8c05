"""File operations in the folder of videos. It may be on a network: slow, and at times not answering at all.

A thread that works there then blocks until the folder is back. So there are few such threads, a caller that waits for
one gets `Silent` after a time limit, and everything else goes on.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import ParamSpec, TypeVar

import anyio

T = TypeVar("T")
P = ParamSpec("P")

MAX_CONCURRENT = 8
"""Threads that work in the folder."""
STEP_TIMEOUT_S = 20.0
"""Seconds that one step there may take, including the wait for a thread."""
FSYNC_TIMEOUT_S = 120.0
"""Seconds that syncing a whole video to the disk may take."""

MARKER_NAME = ".sora-mcp-folder"
"""The file by which a server recognizes the folder that several servers share."""


SWEEP_INTERVAL_S = 3_600
"""Seconds between the sweeps of all folders for partial files; one of the servers does each."""
LEFTOVER_AGE_S = 7_200
"""Seconds without a write after which a partial file is removed: the process that began it was killed. No download
takes so long (SORA_DOWNLOAD_TIMEOUT)."""

_LEFTOVER_PATTERN = "*.v*.mp4." + "[0-9a-f]" * 8 + ".part"


class Silent(OSError):
    """The folder did not answer in time."""

    def __init__(self) -> None:
        super().__init__(errno.ETIMEDOUT, "it does not answer")


class NotMounted(OSError):
    """The folder is not the one that it was."""

    def __init__(self) -> None:
        super().__init__(errno.ENODEV, "it is not the one that it was when this server started; it may not be mounted")


async def run_in_folder(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread and return its result. Raises Silent if it takes more than STEP_TIMEOUT_S."""
    return await run_within(STEP_TIMEOUT_S, lambda: work(*args, **kwargs))


async def run_within(timeout_s: float, work: Callable[[], T]) -> T:
    """The same with another time limit. A cancelled caller still waits: the work may use what the caller closes."""
    try:
        with anyio.CancelScope(shield=True), anyio.fail_after(timeout_s):
            result = await asyncio.get_running_loop().run_in_executor(_executor(_is_on_local_disk.get()), work)
    except TimeoutError as error:
        raise Silent from error
    return result


@contextmanager
def on_local_disk() -> Iterator[None]:
    """Run the work inside this context in threads of its own: it is on this machine's disk, and never waits for the
    folder's threads."""
    token = _is_on_local_disk.set(True)
    try:
        yield
    finally:
        _is_on_local_disk.reset(token)


_is_on_local_disk = ContextVar("sora_beside_the_folder", default=False)


@cache
def _executor(is_local: bool) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_CONCURRENT, thread_name_prefix="sora-disk" if is_local else "sora-folder")


_REMEMBER_TIMEOUT_S = 3.0
"""Seconds that a starting server waits for the folder."""
_marks: dict[Path, str] = {}


async def remember_folder(folder: Path) -> None:
    """Remember the shared folder as `check_mounted` does, if it answers at once."""
    with suppress(OSError):
        await run_within(_REMEMBER_TIMEOUT_S, lambda: check_mounted(folder))


def check_mounted(folder: Path) -> None:
    """Create the shared folder if it does not exist yet; from then on it has to be that one.

    Raises NotMounted if another folder is in its place, or none: a video would end up on this machine's own disk, where
    the other servers never find it. Raises OSError.
    """
    mark = folder / MARKER_NAME
    if folder not in _marks:
        folder.mkdir(parents=True, exist_ok=True)
        if not mark.exists():
            temporary = folder / f"{MARKER_NAME}.{secrets.token_hex(4)}"
            try:
                temporary.write_text(secrets.token_hex(16), encoding="ascii")
                with suppress(FileExistsError):
                    put_in_place(temporary, mark)
            finally:
                temporary.unlink(missing_ok=True)
        _marks[folder] = mark.read_text(encoding="ascii")
        return
    try:
        is_same = mark.read_text(encoding="ascii") == _marks[folder]
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        is_same = False
    if not is_same:
        raise NotMounted
    _sweep(folder, mark)


def _sweep(folder: Path, mark: Path) -> None:
    """Remove the partial files that killed servers left, once per SWEEP_INTERVAL_S: of all owners, and also in folders
    that are no longer used."""
    with suppress(OSError):
        if 0 <= time.time() - mark.stat().st_mtime < SWEEP_INTERVAL_S:
            return
        mark.touch()
        now = mark.stat().st_mtime
        for each in (folder, *folder.iterdir()):
            remove_leftovers(each, now)


def remove_leftovers(folder: Path, now: float) -> None:
    """Remove the partial files of killed processes: only old ones, and only names that this program gives. `now` is by
    the folder's own clock, which may be another machine's. Raises OSError."""
    for path in folder.glob(_LEFTOVER_PATTERN):
        if path.is_file() and now - path.stat().st_mtime > LEFTOVER_AGE_S:
            path.unlink(missing_ok=True)


def put_in_place(part: Path, target: Path) -> None:
    """Give the finished file its name; unlike a rename, a link never replaces an existing file."""
    try:
        target.hardlink_to(part)
    except FileExistsError:
        if not _is_same_file(part, target):  # NFS reports this for a link that it made if its answer was lost
            raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(errno.EEXIST, "the file exists") from None
        part.rename(target)


def _is_same_file(part: Path, target: Path) -> bool:
    try:
        return part.samefile(target)
    except OSError:
        return False
