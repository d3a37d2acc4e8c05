"""Keep the requests of a session apart: in the older protocol era each has an id of its own.

The SDK finds the stream of a request by its id alone. If two had the same, the later one would get the answer to the
earlier one, whose client would wait forever. That happens where two clients share a session, where a client gives every
request the same id, and where one sends a request again because its connection broke: the first goes on regardless.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import msgspec
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp_types import INVALID_REQUEST
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sora_mcp.server.bounds import read_ahead
from sora_mcp.server.compatibility import error_response, has_session

END_TIMEOUT_S = 1.0
"""Seconds that a request whose client has read its answer may take to end."""

_Key = tuple[str, str]
"""A session's id and a request's: to the SDK, 1 and "1" are the same."""


class _Head(msgspec.Struct):
    method: str
    id: int | str


class RequestIds:
    """Wraps the SDK's endpoint: refuses a request whose id belongs to another one that is in progress, and skips a
    message whose client disconnects while it sends it. Raise ClientDisconnect for that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_use = Counter[_Key]()
        self._released = anyio.Event()
        """Set, and replaced, when an id may be used again."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body, receive = await read_ahead(receive)
        head = _read_head(body) if has_session(scope) else None
        if head is None:
            await self._app(scope, receive, send)
            return
        key = (dict(scope["headers"])[MCP_SESSION_ID_HEADER.encode()].decode("latin-1"), str(head.id))
        if not await self._is_free(key):
            await _refusal(head.id)(scope, receive, send)
            return
        with self._use(key):
            await self._app(scope, receive, send)

    async def follow(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Middleware: a request is in progress until it was handled, though its client may have disconnected."""
        session_id = "" if ctx.request is None else ctx.request.headers.get(MCP_SESSION_ID_HEADER, "")
        key = (session_id, str(ctx.request_id))
        if key not in self._in_use:
            return await call_next(ctx)
        with self._use(key):
            return await call_next(ctx)

    async def _is_free(self, key: _Key) -> bool:
        """Return whether no request has the id; wait for one that was just answered to end."""
        with anyio.move_on_after(END_TIMEOUT_S):
            while key in self._in_use:
                await self._released.wait()
        return key not in self._in_use

    @contextmanager
    def _use(self, key: _Key) -> Iterator[None]:
        self._in_use[key] += 1
        try:
            yield
        finally:
            self._in_use[key] -= 1
            if not self._in_use[key]:
                del self._in_use[key]
                self._released.set()
                self._released = anyio.Event()


def _read_head(body: bytes) -> _Head | None:
    """Return a message's method and id; None if it is no request."""
    try:
        return msgspec.json.decode(body, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _refusal(request_id: int | str) -> JSONResponse:
    message = (
        f"The id {json.dumps(request_id)[:80]} is that of another request in this session, which is not answered yet. "
        "Nothing was submitted. Send it again with an id that no other request of this session has had."
    )
    return error_response(400, INVALID_REQUEST, message, request_id)
