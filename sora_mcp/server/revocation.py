"""One request and its answer, which ends where the token is no longer good: a stream may be open for hours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_mcp.server.receiving import Receiving

logger = logging.getLogger(__name__)

LOOK_AGAIN_AFTER_S = 2.0
"""Seconds between two looks at the token of an answer that is still under way."""


class Ending(NamedTuple):
    """Why a request ends, for the log, and what answers it if nothing was answered yet."""

    why: str
    answer: ASGIApp


class Exchanges:
    """Serves requests with `app`, each until there is an ending for it; then its stream ends, or it is answered with
    that.

    What a request has begun goes on as it does where a client hangs up: what is being paid for is recorded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._under_way: set[_Exchange] = set()
        self._timer: asyncio.TimerHandle | None = None
        """One for all: each that is cancelled stays with the event loop until it would have been due."""

    async def serve(self, scope: Scope, receive: Receive, send: Send, ending: Callable[[], Ending | None]) -> None:
        """Serve one until there is an `ending()`."""
        exchange = _Exchange(scope, receive, send, ending)
        self._under_way.add(exchange)
        if self._timer is None:
            self._look_again()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._under_way.discard(exchange)

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_AGAIN_AFTER_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for each in self._under_way:
            each.look()
        if self._under_way:
            self._look_again()


class _Exchange:
    def __init__(self, scope: Scope, receive: Receive, send: Send, ending: Callable[[], Ending | None]) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._ending = ending
        self._sending = asyncio.Lock()  # anyio's gives way to other tasks even where it is free
        self._until_over = Receiving(receive)
        self._has_begun = False
        self._has_length = False
        self._is_whole = False
        self._has_arrived = False
        self._task: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """What comes from the client; that it hung up, once the token is no longer good."""
        if self._has_arrived:
            return await self._until_over()
        message = await self._receive()
        self._has_arrived = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """What goes to the client; nothing, once the token is no longer good."""
        async with self._sending:
            if self._until_over.has_ended:
                return
            if message["type"] == "http.response.start":
                self._has_begun = True
                self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            else:
                self._is_whole = not message.get("more_body", False)
            await self._send(message)

    def look(self) -> None:
        """Begin to end it where there is an ending; an answer whose length was said is short, and has to be as long."""
        if self._task is None and not (self._is_whole or self._has_length) and (ending := self._ending()) is not None:
            self._task = asyncio.ensure_future(self._end(ending))

    async def _end(self, ending: Ending) -> None:
        async with self._sending:
            self._until_over.end()
            logger.warning("a request of %s is ended: %s", self._scope["user"].access_token.subject, ending.why)
            if self._has_begun:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await ending.answer(self._scope, self._receive, self._send)
