"""The transports: stdio and streamable HTTP."""

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
from sora_mcp.server.negotiation import serve
from sora_mcp.server.output import Stdout
from sora_mcp.server.surface import build

if TYPE_CHECKING:
    from sora_mcp.server.authentication import Authentication


def serve_stdio(settings: Settings) -> None:
    """Serve one client over stdin and stdout until end of input, SIGTERM or SIGINT; wait for POSTs in progress."""
    anyio.run(_serve_stdio, settings)
    # A worker thread may still be blocked in a read of stdin, and would keep the interpreter from exiting.
    sys.stderr.flush()
    os._exit(0)


async def _serve_stdio(settings: Settings) -> None:
    server = build(settings)
    async with anyio.create_task_group() as tasks:
        stdout = Stdout(on_close=tasks.cancel_scope.cancel)
        stdin = Stdin(on_eof=stdout.start_shutdown)
        end_on_signal = partial(
            cancel_on, tasks.cancel_scope, signal.SIGTERM, signal.SIGINT, before=stdout.start_shutdown
        )
        tasks.start_soon(end_on_signal)
        async with stdio_server(stdin=stdin, stdout=stdout) as (read_stream, write_stream):
            stdin.send = write_stream.send
            await serve(server, read_stream, write_stream)
        tasks.cancel_scope.cancel()


_GC_THRESHOLDS = (10_000, 20, 50)
"""Python's (700, 10, 10) collects so often that most objects it visits belong to requests in progress: with 50 of them
at the same time, that took an eighth of a server's time."""


def serve_http(settings: Settings, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve any number of clients over streamable HTTP. Port 0 picks a free one; `ready` is called with the address
    once clients can connect.

    Raise NotConfigured if other machines could reach `host`, and SORA_AUTH, SORA_ALLOWED_HOSTS and SORA_ALLOWED_ORIGINS
    are not all set; OSError if the port cannot be bound.
    """
    import gc  # noqa: PLC0415 - stdio does not need these

    from sora_mcp.config.binding import check_host  # noqa: PLC0415
    from sora_mcp.runtime.listening import listen  # noqa: PLC0415
    from sora_mcp.server.http import MCP_PATH, HttpApp  # noqa: PLC0415

    check_host(settings, host)
    gc.set_threshold(*_GC_THRESHOLDS)
    server = build(settings)
    app = HttpApp(server, settings, authentication=_authentication(settings))
    listen(
        app,
        host,
        port,
        lambda base_url: ready(f"{base_url}{MCP_PATH}"),
        on_shutdown=app.shutdown,
        connections=app.connections,
    )


def _authentication(settings: Settings) -> Authentication | None:
    """Return how callers are authenticated, None if they are not. Raise NotConfigured."""
    if not settings.auth:
        return None
    from sora_mcp.server.authentication import Authentication  # noqa: PLC0415 - not needed for one person

    return Authentication.from_settings(settings)
