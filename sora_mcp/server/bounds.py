"""How long one message may be: a longer one is never held whole, and whoever waits for its answer is told why."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import anyio
import mcp_types as types
from msgspec import Struct

from sora_mcp import tools
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.tools.arguments import MOST_CHARACTERS

logger = logging.getLogger(__name__)

MOST_BYTES = MOST_CHARACTERS
"""Of one message: of a line on stdin, of a body over HTTP."""
_LONGEST_PLAIN = 65_536
"""Characters of a member that is looked at."""
_MOST_TOKENS = 100_000
"""Of the beginning of a line that is too long, which are looked at."""
_DRAIN_WITHIN = 10.0
"""Seconds for which the rest of a body is still taken in: a client that is cut off while it sends reads no answer."""


class TooLong(Struct, frozen=True):
    """What is known of a line that is too long: its beginning, as long as a line may be, and its end."""

    head: str
    tail: str


def answer_to(line: TooLong) -> types.JSONRPCResponse | types.JSONRPCError | None:
    """The answer to a request that is too long, where its id can be found; None where nobody waits for one."""
    members = dict(_members(line.head)) | _last_members(line.tail)
    identity = members.get("id")
    if not isinstance(identity, str | int) or isinstance(identity, bool):
        logger.warning("a message of more than %d bytes was skipped; it has no id that can be found", MOST_BYTES)
        return None
    if members.get("method") != "tools/call":
        return types.JSONRPCError(jsonrpc="2.0", id=identity, error=_too_long())
    refused = tools.failed(InvalidInput([_PROBLEM]), paid=True)  # which tool was meant is not known
    content: list[types.ContentBlock] = [types.TextContent(text=text) for text in (refused.text, refused.mirror)]
    result = types.CallToolResult(content=content, structured_content=refused.structured, is_error=True)
    shown = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return types.JSONRPCResponse(jsonrpc="2.0", id=identity, result=shown)


_PROBLEM = Problem("arguments", "are too long", f"messages of up to {MOST_BYTES // 1_000_000} MB")


def _too_long(most_bytes: int = MOST_BYTES) -> types.ErrorData:
    most = f"{most_bytes // 1_000_000} MB" if most_bytes >= 1_000_000 else f"{most_bytes // 1000} KB"
    message = f"The message is longer than {most}. It was not read, and nothing was submitted."
    return types.ErrorData(code=types.INVALID_REQUEST, message=message)


_TOKEN = re.compile(r'\s*+("(?:[^"\\]++|\\.)*+"|[{}\[\]:,]|[^\s"{}\[\]:,]++)', re.DOTALL)


def _members(text: str) -> Iterator[tuple[str, Any]]:
    """The plain members of the object with which a text begins, as far as it can be read; ids are no objects."""
    at, depth, before = 0, 0, ["", ""]
    for _ in range(_MOST_TOKENS):
        if (piece := _TOKEN.match(text, at)) is None:
            return
        at, token = piece.end(), piece[1]
        if depth == 1 and before[1] == ":" and (name := _plain(before[0])) and token not in {"{", "["}:
            yield name, _plain(token)
        depth += (token in {"{", "["}) - (token in {"}", "]"})
        before = [before[1], token]


def _last_members(text: str) -> dict[str, Any]:
    """The plain members with which an object ends that is a line of its own."""
    ending = re.search(r'(?:,\s*"\w{1,64}"\s*:\s*(?:"[^"\\]{0,200}"|[\w.+-]{1,64})\s*)+\}\s*\Z', text)
    if ending is None:
        return {}
    members = _plain("{" + ending[0].strip()[1:])
    return members if isinstance(members, dict) else {}


def _plain(token: str) -> Any:
    """What a short piece of JSON says; None where it is none."""
    try:
        return json.loads(token) if len(token) < _LONGEST_PLAIN else None
    except ValueError:
        return None


# --- HTTP -----------------------------------------------------------------------------------------

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def in_words(app: App, most_bytes: int = MOST_BYTES) -> App:
    """An ASGI app whose refusal of a body (413), of more than `most_bytes`, says why, as the error of a request whose
    id was not read."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def say(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == 413:
                refused = True
                await drain(receive)
                await _send_refusal(send, most_bytes)
            elif not refused:
                await send(message)

        await app(scope, receive, say)

    return wrapped


async def read_ahead(receive: Receive, seen: Callable[[int], None] = lambda _: None) -> tuple[bytes, Receive]:
    """A body, empty where it is too long, and what gives it once more. `seen` is told how long each part is."""
    body = bytearray()  # one, however small the parts are
    message: Message = {"type": "http.request", "more_body": True}
    while message.get("more_body", False) and len(body) <= MOST_BYTES:
        message = await receive()
        part = message.get("body", b"")
        seen(len(part))
        body += part
    is_given, whole = message["type"] != "http.request", bytes(body)

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {**message, "body": whole}

    return whole if len(whole) <= MOST_BYTES else b"", again


async def drain(receive: Receive) -> None:
    """Take in the rest of a body, for a while, and forget it."""
    with anyio.move_on_after(_DRAIN_WITHIN):
        while (await receive()).get("more_body", False):
            pass


async def _send_refusal(send: Send, most_bytes: int) -> None:
    error = types.JSONRPCError(jsonrpc="2.0", id=None, error=_too_long(most_bytes))
    body = error.model_dump_json(by_alias=True, exclude_unset=True).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
