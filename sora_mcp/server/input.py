"""stdin as the input from one client, read line by line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import anyio
from anyio import to_thread
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage

from sora_mcp.server.bounds import MAX_MESSAGE_BYTES, OversizedLine, refusal_of
from sora_mcp.server.malformed import is_message, refuse
from sora_mcp.tools.arguments import SURROGATE_MARK

_CHUNK_BYTES = 65_536
"""Bytes per read."""
_STDIN_FD = 0


class Stdin(anyio.AsyncFile[str]):
    """stdin whose pending read can be cancelled, so that a signal ends the server while a client is silent.

    The SDK would drop a line that is no message without an answer, and the host would wait until it times out. It is
    answered here with `send`; one that is too long is not loaded whole.
    """

    send: Callable[[SessionMessage], Awaitable[None]] | None = None

    def __init__(self, on_eof: Callable[[], None]) -> None:
        """`on_eof` is called at the end of the input."""
        super().__init__(sys.stdin)
        self._on_eof = on_eof
        self._buffer = bytearray()
        """What was read and not returned yet."""
        self._can_poll = sys.platform != "win32"
        """Whether the event loop can wait until stdin is readable; for a file it cannot."""

    async def __aiter__(self) -> AsyncIterator[str]:
        while line := await self.readline():
            yield line
        self._on_eof()

    async def readline(self) -> str:
        """Return the next message, repaired if need be; empty at the end. Everything else is answered here."""
        while line := await self._next_line():
            if isinstance(line, OversizedLine):
                await self._answer(refusal_of(line))
                continue
            line = line.removeprefix("\ufeff")  # a byte order mark, sent by hosts on Windows
            if is_message(line) or is_message(line := repair(line)):
                return line
            for refusal in refuse(line) if line.strip() else []:
                await self._answer(refusal)
        return ""

    async def _answer(self, message: JSONRPCMessage | None) -> None:
        if message is not None and self.send is not None:
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # the server has ended
                await self.send(SessionMessage(message))

    async def _next_line(self) -> str | OversizedLine:
        """Return the next line with its line break. If it is too long, skip the rest of it."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched) + 1) == 0:
            searched = len(self._buffer)
            if searched > MAX_MESSAGE_BYTES:
                return await self._skip_oversized()
            if not (chunk := await self._read_chunk()):
                end = searched
                break
            self._buffer += chunk
        line = self._buffer[:end]
        del self._buffer[:end]
        if end <= MAX_MESSAGE_BYTES + 1:
            return _decode(line)
        return OversizedLine(_decode(line[:MAX_MESSAGE_BYTES]), _decode(line[-_CHUNK_BYTES:]))

    async def _skip_oversized(self) -> OversizedLine:
        head, tail, end = _decode(self._buffer[:MAX_MESSAGE_BYTES]), self._buffer[-_CHUNK_BYTES:], 0
        self._buffer.clear()
        while not end and (chunk := await self._read_chunk()):
            end = chunk.find(b"\n") + 1
            tail = tail[-_CHUNK_BYTES:] + chunk[: end or None]
            self._buffer[:] = chunk[end:] if end else b""
        return OversizedLine(head, _decode(tail))

    async def _read_chunk(self) -> bytes:
        """Return the next bytes as soon as there are any; none at the end."""
        if sys.stdin is None:  # closed before the process started: its descriptor may now belong to something else
            return b""
        while self._can_poll:  # cheaper than a worker thread that waits
            try:
                await anyio.wait_readable(_STDIN_FD)
                return os.read(_STDIN_FD, _CHUNK_BYTES)
            except BlockingIOError:  # another process has read it
                continue
            except OSError:
                self._can_poll = False
        return await to_thread.run_sync(os.read, _STDIN_FD, _CHUNK_BYTES, abandon_on_cancel=True)


def _decode(line: bytes | bytearray) -> str:
    return line.decode("utf-8", "surrogateescape")


def repair(line: str) -> str:
    """Return a line with lone surrogates replaced; one with invalid UTF-8 was decoded to such."""
    return re.sub(r"[\ud800-\udfff]|" + _LONE_SURROGATE, SURROGATE_MARK, line)


_LONE_SURROGATE = (
    r"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half of a surrogate pair as a JSON escape: sent by a host that cut a text inside an emoji."""
