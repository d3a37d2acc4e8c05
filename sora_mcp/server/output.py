"""stdout as the output to one client, which may have stopped reading."""

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

UNREAD_TIMEOUT_S = 3.0
"""Seconds to wait during shutdown for a client that reads nothing."""
_CHUNK_BYTES = 64 * 1024
"""Bytes per write: a client that reads that many is alive."""
_PIPE_BUF = 0 if sys.platform == "win32" else select.PIPE_BUF
"""Bytes that a pipe accepts without blocking once it is writable."""


class Stdout(anyio.AsyncFile[str]):
    """stdout, reserved for messages: other prints go to stderr. During shutdown, what is not read within
    UNREAD_TIMEOUT_S is dropped, and everything after it."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        """`on_close` is called when the client has closed its end."""
        super().__init__(sys.stdout)
        self._on_close = on_close
        self._fd = _claim_stdout()
        self._timeout_s = math.inf
        self._writing = anyio.CancelScope()
        self._is_abandoned = False

    def start_shutdown(self) -> None:
        """Bound all writes from now on: the process is shutting down."""
        self._timeout_s = UNREAD_TIMEOUT_S
        self._writing.deadline = min(self._writing.deadline, anyio.current_time() + self._timeout_s)

    async def write(self, text: Any) -> int:  # as in AsyncFile
        """Write a line; once started it is completed, even if the caller is cancelled."""
        line = memoryview(str(text).encode())
        if not self._is_abandoned:
            line = self._write_nonblocking(line)
        for start in range(0, len(line), _CHUNK_BYTES):
            if self._is_abandoned:
                break
            deadline = anyio.current_time() + self._timeout_s
            with anyio.CancelScope(shield=True, deadline=deadline) as self._writing:
                try:
                    await to_thread.run_sync(self._write, line[start : start + _CHUNK_BYTES], abandon_on_cancel=True)
                except OSError:
                    self._is_abandoned = True
                    self._on_close()
            if self._writing.cancelled_caught:
                logger.warning("the client is not reading; messages that it has not received are dropped")
                self._is_abandoned = True
        return len(text)

    async def flush(self) -> None:
        """Do nothing: everything is written already."""

    def _write_nonblocking(self, line: memoryview) -> memoryview:
        """Write a short line in the event loop's thread if that does not block, and return what is left to write. A
        worker thread costs more."""
        with suppress(OSError, ValueError):  # the worker gets the same error, and handles it
            if len(line) <= _PIPE_BUF and select.select([], [self._fd], [], 0)[1]:
                return line[os.write(self._fd, line) :]
        return line

    def _write(self, chunk: memoryview) -> None:
        while chunk:
            try:
                chunk = chunk[os.write(self._fd, chunk) :]
            except BlockingIOError:  # a host may have made its end, and so this one, non-blocking
                select.select([], [self._fd], [])


def _claim_stdout() -> int:
    """Return a private descriptor for stdout, and point 1 itself to stderr; return 1 if that is not possible."""
    if sys.platform == "win32":
        return 1
    try:
        fd = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        return 1
    return fd
