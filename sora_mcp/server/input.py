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
from pydantic_core import from_json

from sora_mcp.server.bounds import MAX_MESSAGE_BYTES, OversizedLine, refusal_of
from sora_mcp.tools.arguments import SURROGATE_MARK

_CHUNK_BYTES = 65_536
"""Bytes per read."""
_STDIN_FD = 0


class Stdin(anyio.AsyncFile[str]):
    """stdin whose pending read can be cancelled, so that a signal ends the server while a client is silent.

    The SDK would drop a line that is not JSON without an answer, and the host would wait until it times out. A line
    that is too long is answered here with `send`, without being loaded whole.
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
        """Return the next line, repaired if need be; empty at the end."""
        while isinstance(line := await self._next_line(), OversizedLine):
            if (refusal := refusal_of(line)) is not None and self.send is not None:
                with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # the server has ended
                    await self.send(SessionMessage(refusal))
        return line and repair(line)

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
    """Return the line if it is JSON; or with lone surrogates replaced; or an invalid request with the same id."""
    line = line.removeprefix("\ufeff")  # a byte order mark, sent by hosts on Windows
    if _is_json(line):
        return line
    repaired = re.sub(r"[\ud800-\udfff]|" + _LONE_SURROGATE, SURROGATE_MARK, line)
    request_id = re.search(r'"id"\s*:\s*("[\w.-]{1,64}"|\d{1,15})\s*[,}]', line)
    if _is_json(repaired) or request_id is None:
        return repaired
    return (
        f'{{"jsonrpc":"2.0","id":{request_id[1]},"method":"unreadable: the request was not JSON that can be read"}}\n'
    )


_LONE_SURROGATE = (
    r"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half of a surrogate pair as a JSON escape: sent by a host that cut a text inside an emoji."""


def _is_json(line: str) -> bool:
    try:
        from_json(line)
    except (ValueError, TypeError):  # TypeError: invalid UTF-8 was read as lone surrogates
        return not line.strip()
    return True
