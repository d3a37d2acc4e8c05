"""Graceful shutdown over HTTP: finish the calls in progress, then close streams that would stay open forever."""

from __future__ import annotations

import logging

import anyio
from sse_starlette.sse import AppStatus
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_mcp.runtime.listening import GRACE_S
from sora_mcp.server.receiving import ClosableReceive
from sora_mcp.server.surface import SoraServer

logger = logging.getLogger(__name__)


class Draining:
    """Wraps the MCP endpoint of a server. A POST is a call; a GET is a stream that only the server ends."""

    def __init__(self, app: ASGIApp, server: SoraServer) -> None:
        # Otherwise the library that writes event streams ends all of them at SIGTERM, answers to calls included.
        AppStatus.enable_automatic_graceful_drain = False
        self._app = app
        self._server = server
        self._posts = 0
        self._changed = anyio.Event()
        self._streams: set[ClosableReceive] = set()
        self._is_closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            await self._serve_stream(scope, receive, send)
            return
        self._posts += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._posts -= 1
            self._changed.set()

    async def _serve_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        receiving = ClosableReceive(receive)
        if self._is_closed:
            receiving.close()
        self._streams.add(receiving)
        try:
            await _complete_response(self._app, scope, receiving, send)
        finally:
            self._streams.discard(receiving)

    @property
    def under_way(self) -> int:
        """The number of calls that are not answered yet."""
        return self._posts - self._server.subscribers.open_requests

    async def shutdown(self) -> None:
        """Wait for the calls in progress, at most GRACE_S seconds, then end long-running streams, which is harmless."""
        if self.under_way > 0:
            logger.warning("shutting down: waiting up to %g s for calls under way: %d", GRACE_S, self.under_way)
        self._server.stop_accepting()
        self._server.close_viewers()  # pictures are free, and a crafted video can make them take forever
        with anyio.move_on_after(GRACE_S):
            while self.under_way > 0:
                self._changed = anyio.Event()
                await self._changed.wait()
        self._server.close()
        self._is_closed = True
        for each in self._streams:
            each.close()


async def _complete_response(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run `app`, and end an answer that it leaves open, so that a proxy sees it as complete."""
    is_open = False

    async def track_end(message: Message) -> None:
        nonlocal is_open
        is_open = message["type"] == "http.response.start" or message.get("more_body", False)
        await send(message)

    await app(scope, receive, track_end)
    if is_open:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
