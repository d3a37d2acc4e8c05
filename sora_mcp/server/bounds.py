"""Limit the length of a message: a longer one is never loaded whole, and its sender gets the reason."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import anyio
import mcp_types as types
from mcp.shared.dispatcher import as_request_id
from msgspec import Struct
from starlette.requests import ClientDisconnect

from sora_mcp import tools
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.tools.arguments import MAX_CHARACTERS

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = MAX_CHARACTERS
"""Bytes of one message: a line on stdin, or a body over HTTP."""
_MAX_VALUE_LENGTH = 65_536
"""Characters of a JSON value that is parsed."""
_MAX_TOKENS = 100_000
"""JSON tokens that are read from the beginning of a line that is too long."""
_DRAIN_TIMEOUT_S = 10.0
"""Seconds for reading the rest of a body: a client that is disconnected while it sends reads no answer."""


class OversizedLine(Struct, frozen=True):
    """The known parts of a line that is too long: its first MAX_MESSAGE_BYTES, and its end."""

    head: str
    tail: str


def refusal_of(line: OversizedLine) -> types.JSONRPCResponse | types.JSONRPCError | None:
    """Return the answer to a request that is too long; None if its id cannot be found."""
    members = dict(_members(line.head)) | _trailing_members(line.tail)
    if (request_id := as_request_id(members.get("id"))) is None:
        logger.warning("a message of more than %d bytes was skipped; no request id was found in it", MAX_MESSAGE_BYTES)
        return None
    if members.get("method") != "tools/call":
        return types.JSONRPCError(jsonrpc="2.0", id=request_id, error=_too_long_error())
    failure = tools.error_result(InvalidInput([_PROBLEM]), paid=True)  # which tool was meant is not known
    content: list[types.ContentBlock] = [types.TextContent(text=text) for text in (failure.text, failure.mirror)]
    result = types.CallToolResult(content=content, structured_content=failure.structured, is_error=True)
    dumped = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return types.JSONRPCResponse(jsonrpc="2.0", id=request_id, result=dumped)


_PROBLEM = Problem("arguments", "are too long", f"messages of up to {MAX_MESSAGE_BYTES // 1_000_000} MB")


def _too_long_error(max_bytes: int = MAX_MESSAGE_BYTES) -> types.ErrorData:
    limit = f"{max_bytes // 1_000_000} MB" if max_bytes >= 1_000_000 else f"{max_bytes // 1000} KB"
    message = f"The message is longer than {limit}. It was not read, and nothing was submitted."
    return types.ErrorData(code=types.INVALID_REQUEST, message=message)


_TOKEN = re.compile(r'\s*+("(?:[^"\\]++|\\.)*+"|[{}\[\]:,]|[^\s"{}\[\]:,]++)', re.DOTALL)


def _members(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the scalar members of the object that a text begins with, as far as it can be parsed; ids are scalars."""
    position, depth, previous = 0, 0, ["", ""]
    for _ in range(_MAX_TOKENS):
        if (piece := _TOKEN.match(text, position)) is None:
            return
        position, token = piece.end(), piece[1]
        if depth == 1 and previous[1] == ":" and (name := _parse_value(previous[0])) and token not in {"{", "["}:
            yield name, _parse_value(token)
        depth += (token in {"{", "["}) - (token in {"}", "]"})
        previous = [previous[1], token]


def _trailing_members(text: str) -> dict[str, Any]:
    """Return the scalar members at the end of a line that is one JSON object."""
    match = re.search(r'(?:,\s*"\w{1,64}"\s*:\s*(?:"[^"\\]{0,200}"|[\w.+-]{1,64})\s*)+\}\s*\Z', text)
    if match is None:
        return {}
    members = _parse_value("{" + match[0].strip()[1:])
    return members if isinstance(members, dict) else {}


def _parse_value(token: str) -> Any:
    """Parse a short piece of JSON; None if it is too long or invalid."""
    try:
        return json.loads(token) if len(token) < _MAX_VALUE_LENGTH else None
    except ValueError:
        return None


# --- HTTP -----------------------------------------------------------------------------------------

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def explain_413(app: App, max_bytes: int = MAX_MESSAGE_BYTES) -> App:
    """Wrap an ASGI app so that its 413 for a body of more than `max_bytes` has the reason as its body: a JSON-RPC
    error without an id, since that was not read."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        is_refused = False

        async def send_explained(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start" and message["status"] == 413:
                is_refused = True
                await drain(receive)
                await _send_refusal(send, max_bytes)
            elif not is_refused:
                await send(message)

        await app(scope, receive, send_explained)

    return wrapped


async def read_ahead(receive: Receive, on_chunk: Callable[[int], None] = lambda _: None) -> tuple[bytes, Receive]:
    """Read a body. Return it (empty if it is too long), and a `receive` that replays it.

    `on_chunk` is called with the length of each part. Raise ClientDisconnect if the body ends early.
    """
    body = bytearray()  # one buffer, however small the parts are
    message: Message = {"type": "http.request", "more_body": True}
    while message.get("more_body", False) and len(body) <= MAX_MESSAGE_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        on_chunk(len(part))
        body += part
    is_replayed, content = False, bytes(body)

    async def replay() -> Message:
        nonlocal is_replayed
        if is_replayed:
            return await receive()
        is_replayed = True
        return {**message, "body": content}

    return content if len(content) <= MAX_MESSAGE_BYTES else b"", replay


async def drain(receive: Receive) -> None:
    """Read and discard the rest of a body, for _DRAIN_TIMEOUT_S at most."""
    with anyio.move_on_after(_DRAIN_TIMEOUT_S):
        while (await receive()).get("more_body", False):
            pass


async def _send_refusal(send: Send, max_bytes: int) -> None:
    error = types.JSONRPCError(jsonrpc="2.0", id=None, error=_too_long_error(max_bytes))
    body = error.model_dump_json(by_alias=True, exclude_unset=True).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
