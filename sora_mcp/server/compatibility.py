"""Support some HTTP clients beyond the SDK: a byte order mark before a body, a stream that is to be resumed, and
messages for an unknown session and for a body that is no message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp.server.streamable_http import LAST_EVENT_ID_HEADER, MCP_SESSION_ID_HEADER
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import INVALID_REQUEST, PARSE_ERROR
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_mcp.server.malformed import NO_JSON, NO_MESSAGE

_BOM = b"\xef\xbb\xbf"
_SESSION, _VERSION = MCP_SESSION_ID_HEADER.encode(), MCP_PROTOCOL_VERSION_HEADER.encode()
_LAST_EVENT = LAST_EVENT_ID_HEADER.encode()
_SESSION_VERSIONS = {None, *(version.encode() for version in HANDSHAKE_PROTOCOL_VERSIONS)}

UNKNOWN_SESSION = (
    "This session is not known: the server was restarted, or the session was ended. Nothing was submitted."
    " Initialize again: send an initialize request without the header Mcp-Session-Id."
)

_SDK_ERRORS = {b"Validation error: ": (INVALID_REQUEST, NO_MESSAGE), b"Parse error: ": (PARSE_ERROR, NO_JSON)}
"""What replaces the SDK's messages that begin so: they go on with the text of a library."""


class ClientCompatibility:
    """Wraps an MCP endpoint over streamable HTTP."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if has_session(scope):
            send = _SessionResponse(scope, receive, send).send
        if scope["method"] == "GET":
            # No events are stored, so a new stream is opened instead; the SDK would send no response.
            scope = {**scope, "headers": [header for header in scope["headers"] if header[0] != _LAST_EVENT]}
        await self._app(scope, _Body(receive).receive, _PlainErrors(scope, receive, send).send)


class _Body:
    """A request's body without its byte order mark."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_started = False

    async def receive(self) -> Message:
        message = await self._receive()
        if self._is_started or message["type"] != "http.request":
            return message
        body = message.get("body", b"")
        while len(body) < len(_BOM) and _BOM.startswith(body) and message.get("more_body", False):
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            body += message.get("body", b"")
        self._is_started = True
        return {**message, "body": body.removeprefix(_BOM)}


class _SessionResponse:
    """The response to a request of a session. A 404 means that the session is unknown (specification,
    basic/transports, "Session Management"); its body is replaced by a message that says what to do."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 404:
            self._replaced = True
            await error_response(404, INVALID_REQUEST, UNKNOWN_SESSION)(self._scope, self._receive, self._send)
        elif not self._replaced:
            await self._send(message)


class _PlainErrors:
    """The response to a request; the text of a library in a 400 for its body is replaced by a plain sentence."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._start: Message | None = None
        """The start of a 400 whose body is not known yet."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 400:
            self._start = message
            return
        if (start := self._start) is not None:
            self._start = None
            for beginning, (code, sentence) in _SDK_ERRORS.items():
                if b'"message":"' + beginning in message.get("body", b""):
                    await error_response(400, code, sentence)(self._scope, self._receive, self._send)
                    return
            await self._send(start)
        await self._send(message)


def error_response(status: int, code: int, message: str, request_id: str | int | None = None) -> JSONResponse:
    """Return the response with an error of JSON-RPC; without a `request_id` if that of the request is not known."""
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}, status)


def has_session(scope: Mapping[str, Any]) -> bool:
    """Return whether a request belongs to a session; the era without sessions uses 404 for other things."""
    headers = dict(scope["headers"])
    return _SESSION in headers and headers.get(_VERSION) in _SESSION_VERSIONS
