"""Carrying MCP: stdio and streamable HTTP."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper

import anyio
from anyio import to_thread
from mcp.server.stdio import stdio_server
from pydantic_core import from_json

from sora_mcp.arguments import HALF
from sora_mcp.server.surface import build
from sora_mcp.settings import Settings
from sora_mcp.signals import cancel_on


def serve_stdio(settings: Settings) -> None:
    """Serve one client over stdin and stdout until end of input, SIGTERM or SIGINT; POSTs under way are awaited."""
    anyio.run(_serve_stdio, settings)
    # A worker thread may still be blocked in a read of stdin: it would keep the interpreter from exiting.
    sys.stderr.flush()
    os._exit(0)


async def _serve_stdio(settings: Settings) -> None:
    server = build(settings)
    stdin = _Stdin(TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_on, tasks.cancel_scope, signal.SIGTERM, signal.SIGINT)
        async with stdio_server(stdin=stdin) as (read_stream, write_stream):
            await server.run(read_stream, write_stream, server.create_initialization_options())
        tasks.cancel_scope.cancel()


class _Stdin(anyio.AsyncFile[str]):
    """stdin whose pending read can be given up, so that a signal ends the server while a client is silent.

    A line that is no JSON would be dropped without an answer, and the host would wait for its time-out.
    """

    async def readline(self) -> str:
        return await to_thread.run_sync(self._readable_line, abandon_on_cancel=True)

    def _readable_line(self) -> str:
        return readable(self.wrapped.readline())


def readable(line: str) -> str:
    """The line, if it is JSON; else with its half characters marked; else a request of the same id that is refused."""
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
    """Serve any number of clients over streamable HTTP on a loopback address (there is no authentication).

    Port 0 takes a free one; `ready` is told the address once clients can connect.
    """
    from sora_mcp.listening import listen  # noqa: PLC0415 - stdio does without it

    server = build(settings)
    app = server.streamable_http_app(host=host)
    listen(app, host, port, lambda base_url: ready(f"{base_url}/mcp"), ending=server.close)
