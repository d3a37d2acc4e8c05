"""stdout as the way to one client, who may have stopped reading it."""

from __future__ import annotations

import logging
import math
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio import to_thread

logger = logging.getLogger(__name__)

UNREAD_FOR_S = 3.0
"""Seconds that an ending process waits for a client that reads nothing."""
_AT_ONCE = 64 * 1024
"""Bytes that are written at a time: reading so many is a sign of life."""
_FITS = 0 if sys.platform == "win32" else select.PIPE_BUF
"""Bytes that a pipe takes without making anybody wait, once it is said to be ready."""


class Stdout(anyio.AsyncFile[str]):
    """stdout, taken for this alone: what else is printed goes to stderr. Once the process is `ending`, what is not read
    within UNREAD_FOR_S is dropped, and all that comes after it."""

    def __init__(self, closed: Callable[[], None]) -> None:
        """`closed` is called where the client has closed its end."""
        super().__init__(sys.stdout)
        self._closed = closed
        self._descriptor = _take_over()
        self._unread_for = math.inf
        self._writing = anyio.CancelScope()
        self._given_up = False

    def end(self) -> None:
        """The process is ending."""
        self._unread_for = UNREAD_FOR_S
        self._writing.deadline = min(self._writing.deadline, anyio.current_time() + self._unread_for)

    async def write(self, text: Any) -> int:  # as in AsyncFile
        """Write a line; one that was begun is ended, whatever is cancelled."""
        line = memoryview(str(text).encode())
        if not self._given_up:
            line = self._write_at_once(line)
        for start in range(0, len(line), _AT_ONCE):
            if self._given_up:
                break
            deadline = anyio.current_time() + self._unread_for
            with anyio.CancelScope(shield=True, deadline=deadline) as self._writing:
                try:
                    await to_thread.run_sync(self._write, line[start : start + _AT_ONCE], abandon_on_cancel=True)
                except OSError:
                    self._given_up = True
                    self._closed()
            if self._writing.cancelled_caught:
                logger.warning("the client reads nothing; what it was still to be told is dropped")
                self._given_up = True
        return len(text)

    async def flush(self) -> None:
        """All is written already."""

    def _write_at_once(self, line: memoryview) -> memoryview:
        """Write a short line in the event loop's own thread, where the client has room for it; what is left to write.
        To hand it to a worker costs more."""
        with suppress(OSError, ValueError):  # a worker finds out what it is
            if len(line) <= _FITS and select.select([], [self._descriptor], [], 0)[1]:
                return line[os.write(self._descriptor, line) :]
        return line

    def _write(self, part: memoryview) -> None:
        while part:
            try:
                part = part[os.write(self._descriptor, part) :]
            except BlockingIOError:  # a host may have made its end, and so ours, one that never waits
                select.select([], [self._descriptor], [])


def _take_over() -> int:
    """A descriptor for stdout that nobody else has; 1 itself leads to stderr from now on, where that can be done."""
    if sys.platform == "win32":
        return 1
    try:
        own = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        return 1
    return own
