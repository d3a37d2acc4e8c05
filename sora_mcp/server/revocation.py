"""End requests whose token is no longer valid: a stream may be open for hours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_mcp.server.receiving import ClosableReceive

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S = 2.0
"""Seconds between two checks of the token of a request in progress."""


class Termination(NamedTuple):
    """Why a request is ended, for the log, and the response to send if none was started."""

    reason: str
    response: ASGIApp


class Exchanges:
    """Serves requests with `app`, each until there is a termination for it: then its stream ends, or it gets the
    termination's response.

    Work that a request has started goes on as if the client had disconnected: paid requests are recorded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._under_way: set[_Exchange] = set()
        self._timer: asyncio.TimerHandle | None = None
        """One timer for all: a cancelled one stays in the event loop until it would have been due."""

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, termination: Callable[[], Termination | None]
    ) -> None:
        """Serve a request until `termination()` returns one."""
        exchange = _Exchange(scope, receive, send, termination)
        self._under_way.add(exchange)
        if self._timer is None:
            self._schedule_check()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._under_way.discard(exchange)

    def _schedule_check(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(CHECK_INTERVAL_S, self._check_all)

    def _check_all(self) -> None:
        self._timer = None
        for each in self._under_way:
            each.check()
        if self._under_way:
            self._schedule_check()


class _Exchange:
    def __init__(
        self, scope: Scope, receive: Receive, send: Send, termination: Callable[[], Termination | None]
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._termination = termination
        self._sending = asyncio.Lock()  # anyio's yields to other tasks even if it is free
        self._receive_or_close = ClosableReceive(receive)
        self._is_started = False
        self._has_length = False
        self._is_complete = False
        self._is_received = False
        self._task: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Receive from the client, or a disconnect once the token is no longer valid."""
        if self._is_received:
            return await self._receive_or_close()
        message = await self._receive()
        self._is_received = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send to the client, or drop the message once the token is no longer valid."""
        async with self._sending:
            if self._receive_or_close.is_closed:
                return
            if message["type"] == "http.response.start":
                self._is_started = True
                self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            else:
                self._is_complete = not message.get("more_body", False)
            await self._send(message)

    def check(self) -> None:
        """Start to end the request if there is a termination. A response with a declared length is short, and has to
        have that length."""
        if self._task is not None or self._is_complete or self._has_length:
            return
        if (termination := self._termination()) is not None:
            self._task = asyncio.ensure_future(self._end(termination))

    async def _end(self, termination: Termination) -> None:
        async with self._sending:
            self._receive_or_close.close()
            logger.warning("a request of %s is ended: %s", self._scope["user"].access_token.subject, termination.reason)
            if self._is_started:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await termination.response(self._scope, self._receive, self._send)
