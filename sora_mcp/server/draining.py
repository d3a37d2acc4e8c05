"""How a server over HTTP ends: calls under way are finished, then streams are closed that would stand for ever."""

from __future__ import annotations

import logging

import anyio
from sse_starlette.sse import AppStatus
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_mcp.runtime.listening import GRACE_S
from sora_mcp.server.receiving import Receiving
from sora_mcp.server.surface import SoraServer

logger = logging.getLogger(__name__)


class Draining:
    """Wraps the MCP endpoint of a server. A POST is a call; a GET is a stream of notifications that only we can end."""

    def __init__(self, app: ASGIApp, server: SoraServer) -> None:
        # Else the library that writes event streams ends all of them at SIGTERM, answers of calls among them.
        AppStatus.enable_automatic_graceful_drain = False
        self._app = app
        self._server = server
        self._posts = 0
        self._changed = anyio.Event()
        self._streams: set[Receiving] = set()
        self._has_ended = False

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
        receiving = Receiving(receive)
        if self._has_ended:
            receiving.end()
        self._streams.add(receiving)
        try:
            await _completed(self._app, scope, receiving, send)
        finally:
            self._streams.discard(receiving)

    @property
    def under_way(self) -> int:
        """The calls that are not answered yet."""
        return self._posts - self._server.subscribers.open_requests

    async def end(self) -> None:
        """Wait for the calls under way, at most GRACE_S seconds, then end what goes on for long without harm."""
        if self.under_way > 0:
            logger.warning("ending: calls under way are finished first, within %g s: %d", GRACE_S, self.under_way)
        self._server.listen_no_more()
        self._server.close_viewers()  # pictures cost nothing, and a video can be made so that they take for ever
        with anyio.move_on_after(GRACE_S):
            while self.under_way > 0:
                self._changed = anyio.Event()
                await self._changed.wait()
        self._server.close()
        self._has_ended = True
        for each in self._streams:
            each.end()


async def _completed(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run `app`; an answer that it leaves open is ended, so that a proxy takes it for whole."""
    is_open = False

    async def say(message: Message) -> None:
        nonlocal is_open
        is_open = message["type"] == "http.response.start" or message.get("more_body", False)
        await send(message)

    await app(scope, receive, say)
    if is_open:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
