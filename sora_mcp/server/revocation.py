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


class Exchange:
    """Serves one request until there is an `ending()`; then its stream ends, or it is answered with that.

    What the request has begun goes on as it does where a client hangs up: what is being paid for is recorded.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, ending: Callable[[], Ending | None]) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._ending = ending
        self._sending = asyncio.Lock()  # anyio's gives way to other tasks even where it is free
        self._until_over = Receiving(receive)
        self._has_begun = False
        self._has_length = False
        self._has_arrived = False
        self._task: asyncio.Task[None] | None = None

    async def run(self, app: ASGIApp) -> None:
        """Serve it with `app`."""
        self._look_again()
        try:
            await app(self._scope, self.receive, self.send)
        finally:
            self._timer.cancel()

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
            elif not message.get("more_body", False):
                self._timer.cancel()
            await self._send(message)

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_AGAIN_AFTER_S, self._look)

    def _look(self) -> None:
        ending = self._ending()
        if ending is None or self._has_length:  # an answer whose length was said is short, and has to be as long
            self._look_again()
        else:
            self._task = asyncio.ensure_future(self._end(ending))

    async def _end(self, ending: Ending) -> None:
        async with self._sending:
            self._until_over.end()
            logger.warning("a request of %s is ended: %s", self._scope["user"].access_token.subject, ending.why)
            if self._has_begun:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await ending.answer(self._scope, self._receive, self._send)
