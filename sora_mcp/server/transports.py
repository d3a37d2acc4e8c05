"""Carrying MCP: stdio and streamable HTTP."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio
from mcp.server.stdio import stdio_server

from sora_mcp.config.settings import Settings
from sora_mcp.runtime.signals import cancel_on
from sora_mcp.server.input import Stdin
from sora_mcp.server.opening import serve
from sora_mcp.server.output import Stdout
from sora_mcp.server.surface import build

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
        stdin = Stdin(at_end=stdout.end)
        ended = partial(cancel_on, tasks.cancel_scope, signal.SIGTERM, signal.SIGINT, before=stdout.end)
        tasks.start_soon(ended)
        async with stdio_server(stdin=stdin, stdout=stdout) as (read_stream, write_stream):
            stdin.answer = write_stream.send
            await serve(server, read_stream, write_stream)
        tasks.cancel_scope.cancel()


_COLLECT_AFTER = (10_000, 20, 50)
"""Python's (700, 10, 10) looks for cycles so often that most of what it looks at belongs to requests under way: with 50
of them at once, that took an eighth of a server's time."""


def serve_http(settings: Settings, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve any number of clients over streamable HTTP. Port 0 takes a free one; `ready` is told the address once
    clients can connect.

    Raises NotConfigured where others than this machine could reach `host`, and SORA_AUTH, SORA_ALLOWED_HOSTS and
    SORA_ALLOWED_ORIGINS are not all set; OSError where the port cannot be had.
    """
    import gc  # noqa: PLC0415 - stdio does without these

    from sora_mcp.config.binding import check_host  # noqa: PLC0415
    from sora_mcp.runtime.listening import listen  # noqa: PLC0415
    from sora_mcp.server.http import MCP_PATH, HttpApp  # noqa: PLC0415

    check_host(settings, host)
    gc.set_threshold(*_COLLECT_AFTER)
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
