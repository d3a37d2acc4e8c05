"""Work in the folder of videos. It may be one of a network: slow, and one day it answers nobody any more.

A thread that works there then stands still until the folder is back. So there are few of them, whoever waits for one is
told within a while that the folder does not answer, and everything else goes on.
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

AT_ONCE = 8
"""Threads that work in the folder."""
ANSWERS_WITHIN_S = 20.0
"""Seconds that one step there may take, waiting for a thread included."""
FLUSHED_WITHIN_S = 120.0
"""The same for a whole video to get to the disk."""

MARK = ".sora-mcp-folder"
"""A file by which a server knows the folder again that several share."""


SWEEP_EVERY_S = 3_600
"""Seconds after which one of the servers looks for halves in all folders again."""
LEFTOVER_AGE = 7_200
"""Seconds for which nothing was written to half a file, after which it is removed: whoever began it was killed. No
download takes so long (SORA_DOWNLOAD_TIMEOUT)."""

_LEFTOVERS = "*.v*.mp4." + "[0-9a-f]" * 8 + ".part"


class Silent(OSError):
    """The folder has not answered in time."""

    def __init__(self) -> None:
        super().__init__(errno.ETIMEDOUT, "it does not answer")


class NotMounted(OSError):
    """The folder is not the one that it was."""

    def __init__(self) -> None:
        super().__init__(errno.ENODEV, "it is not the one that it was when this server started; it may not be mounted")


async def in_folder(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns, done in a thread. Raises Silent where it takes more than ANSWERS_WITHIN_S."""
    return await within(ANSWERS_WITHIN_S, lambda: work(*args, **kwargs))


async def within(seconds: float, work: Callable[[], T]) -> T:
    """The same, with other patience. Whoever is cancelled meanwhile still waits: the work may use what they close."""
    try:
        with anyio.CancelScope(shield=True), anyio.fail_after(seconds):
            done = await asyncio.get_running_loop().run_in_executor(_threads(_beside.get()), work)
    except TimeoutError as error:
        raise Silent from error
    return done


@contextmanager
def beside_it() -> Iterator[None]:
    """What is done meanwhile is done on this machine's own disk, and waits for nobody who waits for the folder."""
    token = _beside.set(True)
    try:
        yield
    finally:
        _beside.reset(token)


_beside = ContextVar("sora_beside_the_folder", default=False)


@cache
def _threads(is_beside: bool) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sora-disk" if is_beside else "sora-folder")


_KNOWN_WITHIN_S = 3.0
"""Seconds that a server which starts waits for the folder."""
_marks: dict[Path, str] = {}


async def know(folder: Path) -> None:
    """Know the folder that servers share from now on, as `check_mounted` does, if it answers at once."""
    with suppress(OSError):
        await within(_KNOWN_WITHIN_S, lambda: check_mounted(folder))


def check_mounted(folder: Path) -> None:
    """Make the folder that servers share where it is not there yet; from then on it has to be that one.

    Raises NotMounted where another lies in its place, or none: a video would end up on this machine's own disk, where
    the other servers never find it. Raises OSError.
    """
    mark = folder / MARK
    if folder not in _marks:
        folder.mkdir(parents=True, exist_ok=True)
        if not mark.exists():
            made = folder / f"{MARK}.{secrets.token_hex(4)}"
            try:
                made.write_text(secrets.token_hex(16), encoding="ascii")
                with suppress(FileExistsError):
                    put_in_place(made, mark)
            finally:
                made.unlink(missing_ok=True)
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
    """Now and then, remove what killed servers left half, whoever's videos they were: in folders that nobody uses any
    more, too."""
    with suppress(OSError):
        if 0 <= time.time() - mark.stat().st_mtime < SWEEP_EVERY_S:
            return
        mark.touch()
        now = mark.stat().st_mtime
        for each in (folder, *folder.iterdir()):
            remove_leftovers(each, now)


def remove_leftovers(folder: Path, now: float) -> None:
    """Remove what processes that were killed left half: files of our own naming only, and only old ones. `now` is by
    the folder's own clock, which may be another machine's. Raises OSError."""
    for path in folder.glob(_LEFTOVERS):
        if path.is_file() and now - path.stat().st_mtime > LEFTOVER_AGE:
            path.unlink(missing_ok=True)


def put_in_place(part: Path, target: Path) -> None:
    """Give the finished file its name; unlike a rename, a link never replaces a file that is there."""
    try:
        target.hardlink_to(part)
    except FileExistsError:
        if not _is_same(part, target):  # NFS says so of a link that it made, where its answer was lost
            raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(errno.EEXIST, "the file exists") from None
        part.rename(target)


def _is_same(part: Path, target: Path) -> bool:
    try:
        return part.samefile(target)
    except OSError:
        return False
