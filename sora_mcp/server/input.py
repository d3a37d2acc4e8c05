"""stdin as the way from one client, read line by line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import anyio
from anyio import to_thread
from mcp.shared.message import SessionMessage
from pydantic_core import from_json

from sora_mcp.server.bounds import MOST_BYTES, TooLong, answer_to
from sora_mcp.tools.arguments import HALF

_PIECE = 65_536
"""Bytes that are read at once."""
_DESCRIPTOR = 0


class Stdin(anyio.AsyncFile[str]):
    """stdin whose pending read can be given up, so that a signal ends the server while a client is silent.

    A line that is no JSON would be dropped without an answer, and the host would wait for its time-out. One that is
    too long is answered here, by `answer`, without having been held whole.
    """

    answer: Callable[[SessionMessage], Awaitable[None]] | None = None

    def __init__(self, at_end: Callable[[], None]) -> None:
        """`at_end` is called when there is no more."""
        super().__init__(sys.stdin)
        self._at_end = at_end
        self._read = bytearray()
        """What was read and not given yet."""
        self._tells_when = sys.platform != "win32"
        """Whether the event loop can be told when there is something to read; of a file it cannot."""

    async def __aiter__(self) -> AsyncIterator[str]:
        while line := await self.readline():
            yield line
        self._at_end()

    async def readline(self) -> str:
        """The next line that can be read; empty at the end."""
        while isinstance(line := await self._next(), TooLong):
            if (refusal := answer_to(line)) is not None and self.answer is not None:
                with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # the server has ended
                    await self.answer(SessionMessage(refusal))
        return line and readable(line)

    async def _next(self) -> str | TooLong:
        """The next line with its line break. Of one that is too long, the rest is skipped."""
        searched = 0
        while (end := self._read.find(b"\n", searched) + 1) == 0:
            searched = len(self._read)
            if searched > MOST_BYTES:
                return await self._too_long()
            if not (piece := await self._piece()):
                end = searched
                break
            self._read += piece
        line = self._read[:end]
        del self._read[:end]
        return _text(line) if end <= MOST_BYTES + 1 else TooLong(_text(line[:MOST_BYTES]), _text(line[-_PIECE:]))

    async def _too_long(self) -> TooLong:
        head, tail, end = _text(self._read[:MOST_BYTES]), self._read[-_PIECE:], 0
        self._read.clear()
        while not end and (piece := await self._piece()):
            end = piece.find(b"\n") + 1
            tail = tail[-_PIECE:] + piece[: end or None]
            self._read[:] = piece[end:] if end else b""
        return TooLong(head, _text(tail))

    async def _piece(self) -> bytes:
        """What there is to read, as soon as there is any; nothing at the end."""
        if sys.stdin is None:  # it was closed when the process began: whatever has its number now is none of ours
            return b""
        while self._tells_when:  # to have a worker wait for it costs more
            try:
                await anyio.wait_readable(_DESCRIPTOR)
                return os.read(_DESCRIPTOR, _PIECE)
            except BlockingIOError:  # somebody else has read it
                continue
            except OSError:
                self._tells_when = False
        return await to_thread.run_sync(os.read, _DESCRIPTOR, _PIECE, abandon_on_cancel=True)


def _text(line: bytes | bytearray) -> str:
    return line.decode("utf-8", "surrogateescape")


def readable(line: str) -> str:
    """The line, if it is JSON; else with its half characters marked; else a request of the same id that is refused."""
    line = line.removeprefix("\ufeff")  # a byte order mark, which hosts on Windows send
    if _is_json(line):
        return line
    mended = re.sub(r"[\ud800-\udfff]|" + _LONE_ESCAPE, HALF, line)
    identity = re.search(r'"id"\s*:\s*("[\w.-]{1,64}"|\d{1,15})\s*[,}]', line)
    if _is_json(mended) or identity is None:
        return mended
    return f'{{"jsonrpc":"2.0","id":{identity[1]},"method":"unreadable: the request was not JSON that can be read"}}\n'


_LONE_ESCAPE = (
    r"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half of a surrogate pair, written as a JSON escape: what a host sends that cut a text inside an emoji."""


def _is_json(line: str) -> bool:
    try:
        from_json(line)
    except (ValueError, TypeError):  # TypeError: bytes that are no UTF-8 were read as lone surrogates
        return not line.strip()
    return True
