"""Carrying MCP: stdio and streamable HTTP."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from pydantic_core import from_json

from sora_mcp.config.settings import Settings
from sora_mcp.runtime.signals import cancel_on
from sora_mcp.server.bounds import TooLong, answer_to, read_line
from sora_mcp.server.opening import serve
from sora_mcp.server.output import Stdout
from sora_mcp.server.surface import build
from sora_mcp.tools.arguments import HALF

if TYPE_CHECKING:
    from sora_mcp.server.authentication import Authentication


def serve_stdio(settings: Settings) -> None:
    """Serve one client over stdin and stdout until end of input, SIGTERM or SIGINT; POSTs under way are awaited."""
    anyio.run(_serve_stdio, settings)
    # A worker thread may still be blocked in a read of stdin: it would keep the interpreter from exiting.
    sys.stderr.flush()
    os._exit(0)


async def _serve_stdio(settings: Settings) -> None:
    server = build(settings)
    async with anyio.create_task_group() as tasks:
        stdout = Stdout(closed=tasks.cancel_scope.cancel)
        stdin = _Stdin(TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape"), stdout.end)
        ended = partial(cancel_on, tasks.cancel_scope, signal.SIGTERM, signal.SIGINT, before=stdout.end)
        tasks.start_soon(ended)
        async with stdio_server(stdin=stdin, stdout=stdout) as (read_stream, write_stream):
            stdin.answer = write_stream.send
            await serve(server, read_stream, write_stream)
        tasks.cancel_scope.cancel()


class _Stdin(anyio.AsyncFile[str]):
    """stdin whose pending read can be given up, so that a signal ends the server while a client is silent.

    A line that is no JSON would be dropped without an answer, and the host would wait for its time-out. One that is
    too long is answered here, by `answer`, without having been read.
    """

    answer: Callable[[SessionMessage], Awaitable[None]] | None = None

    def __init__(self, file: TextIOWrapper, at_end: Callable[[], None]) -> None:
        super().__init__(file)
        self._at_end = at_end

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in super().__aiter__():
            yield line
        self._at_end()

    async def readline(self) -> str:
        while True:
            line = await to_thread.run_sync(self._readable_line, abandon_on_cancel=True)
            if isinstance(line, str):
                return line
            if (refusal := answer_to(line)) is not None and self.answer is not None:
                with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # the server has ended
                    await self.answer(SessionMessage(refusal))

    def _readable_line(self) -> str | TooLong:
        line = read_line(self.wrapped)
        return readable(line) if isinstance(line, str) else line


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


def serve_http(settings: Settings, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve any number of clients over streamable HTTP. Port 0 takes a free one; `ready` is told the address once
    clients can connect.

    Raises NotConfigured where others than this machine could reach `host`, and SORA_AUTH, SORA_ALLOWED_HOSTS and
    SORA_ALLOWED_ORIGINS are not all set; OSError where the port cannot be had.
    """
    from sora_mcp.config.binding import check_host  # noqa: PLC0415 - stdio does without these
    from sora_mcp.runtime.listening import listen  # noqa: PLC0415
    from sora_mcp.server.http import MCP_PATH, HttpApp  # noqa: PLC0415

    check_host(settings, host)
    server = build(settings)
    app = HttpApp(server, settings, authentication=_authentication(settings))
    listen(
        app,
        host,
        port,
        lambda base_url: ready(f"{base_url}{MCP_PATH}"),
        ending=app.end,
        connections=app.connections,
    )


def _authentication(settings: Settings) -> Authentication | None:
    """How callers say who they are, where they are asked. Raises NotConfigured."""
    if not settings.auth:
        return None
    from sora_mcp.server.authentication import Authentication  # noqa: PLC0415 - a single person does without it

    return Authentication.configured(settings)
