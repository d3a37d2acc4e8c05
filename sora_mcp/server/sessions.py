"""Sessions of the older protocol era on several servers with one ledger: each of them can serve any session.

A session's id holds what its client declared in `initialize`: the revision, and whether its user can be asked. A server
that gets a session's request for the first time uses that to open the session locally. A message that may be meant for
another server, such as the answer to a question that it asked, is broadcast to all of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any
from weakref import WeakValueDictionary

import anyio
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from msgspec import Struct, field
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_mcp.core.errors import SoraError
from sora_mcp.server.bounds import MAX_MESSAGE_BYTES
from sora_mcp.server.principals import current_principal
from sora_mcp.server.session_ids import SessionClient, decode_id, encode_id
from sora_mcp.server.subscribers import MAX_URI_LENGTH, MAX_URIS
from sora_mcp.server.surface import SoraServer

logger = logging.getLogger(__name__)

MAX_SESSIONS = 10_000
"""Sessions that a server stores; a dropped one is opened again when it is used."""
MAX_CLOSED = 1000
"""Sessions that are remembered as closed by their clients."""
MAX_SUBSCRIPTIONS = 2 * MAX_URIS
"""Subscriptions stored for one session, including ended ones."""
MAX_MESSAGE_LENGTH = MAX_URI_LENGTH + 1000
"""Characters of a stored subscription message."""
MAX_ATTEMPTS, RETRY_DELAY_S = 15, 2.0
"""Attempts to send a message to the other servers, and seconds between them: the ledger may be unavailable."""

_SESSION, _VERSION = MCP_SESSION_ID_HEADER.encode(), MCP_PROTOCOL_VERSION_HEADER.encode()
_SUBSCRIBING = {"resources/subscribe", "resources/unsubscribe"}


class _Session(Struct):
    """A session as this server knows it. `local_id`: its id within this server, empty if it has to be opened."""

    client: SessionClient
    scope: Scope
    local_id: str = ""
    subscriptions: dict[str, str] = field(default_factory=dict)
    """The last (un)subscribe message by resource."""
    context: Context = field(default_factory=copy_context)
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    def store_subscription(self, body: _Body) -> None:
        """Store a subscription message unless it is too long; keep the newest MAX_SUBSCRIPTIONS."""
        if len(body.text) <= MAX_MESSAGE_LENGTH:
            self.subscriptions[_subscription_uri(body.message)] = body.text
        while len(self.subscriptions) > MAX_SUBSCRIPTIONS:
            del self.subscriptions[next(iter(self.subscriptions))]


class Sessions:
    """Wraps an MCP endpoint over streamable HTTP."""

    def __init__(self, app: ASGIApp, server: SoraServer) -> None:
        self._app = app
        self._server = server
        self._sender = secrets.token_hex(8)
        self._sessions: dict[str, _Session] = {}
        self._closed: dict[str, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._orders: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A session's messages reach the other servers in the order in which they came: of two answers to a question
        the first counts."""
        server.on_message = self._receive_broadcast

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        version = headers.get(_VERSION, b"").decode("latin-1")
        if scope["type"] != "http" or version not in {"", *HANDSHAKE_PROTOCOL_VERSIONS}:
            await self._app(scope, receive, send)
        elif session_id := headers.get(_SESSION, b"").decode("latin-1"):
            await self._serve(session_id, scope, receive, send)
        elif scope["method"] == "POST":
            await self._open(scope, await _Body.read(receive), send)
        else:
            await self._app(scope, receive, send)

    async def _open(self, scope: Scope, body: _Body, send: Send) -> None:
        """Serve a request without a session: `initialize` opens one."""
        message = body.message
        if message.get("method") != "initialize" or not isinstance(params := message.get("params"), dict):
            await self._app(scope, body.replay(), send)
            return
        client = SessionClient.from_params(params)
        session_id = encode_id(client, _owner())
        session = _Session(client, scope)
        self._add(session_id, session)
        await self._app(scope, body.replay(), _Response(send, session_id, opens=session).send)
        if not session.local_id:
            self._sessions.pop(session_id, None)

    async def _serve(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        client = None if session_id in self._closed else decode_id(session_id, _owner())
        if client is None:
            await Response("Session not found", status_code=404)(scope, receive, send)
            return
        body = await _Body.read(receive) if scope["method"] == "POST" else None
        is_broadcast = body is not None and body.is_broadcast
        if body is not None and (is_broadcast or body.subscribes):
            self._broadcast(session_id, kind="said", message=body.text)
        if scope["method"] == "DELETE":
            self._mark_closed(session_id)
            self._broadcast(session_id, kind="ended")
        session = self._sessions.get(session_id)
        if session is None and (is_broadcast or scope["method"] == "DELETE"):  # it is for another server, or for none
            await Response(status_code=202 if is_broadcast else 200)(scope, receive, send)
            return
        if session is None:
            self._add(session_id, session := _Session(client, scope))
        if body is not None and body.subscribes:
            session.store_subscription(body)
        await self._forward(session_id, session, scope, body.replay if body else lambda: receive, send)
        if scope["method"] == "DELETE":
            self._sessions.pop(session_id, None)

    async def _forward(
        self, session_id: str, session: _Session, scope: Scope, body: Callable[[], Receive], send: Send
    ) -> None:
        """Serve a request in a session, which is opened again if it was closed for being idle."""
        for is_last in (False, True):
            if (status := await self._ensure_open(session, scope)) >= 400:
                await Response("The session cannot be opened now.", status_code=status)(scope, body(), send)
                return
            if scope["method"] == "GET":  # the other servers send the session's subscriptions
                self._broadcast(session_id, kind="listens")
            local_id = session.local_id
            answer = _Response(send, session_id, passes_404=is_last)
            await self._app(_in_session(scope, local_id), body(), answer.send)
            if not answer.is_unknown:
                return
            session.local_id = "" if session.local_id == local_id else session.local_id

    async def _ensure_open(self, session: _Session, scope: Scope) -> int:
        """Open a session if it is not open. Return the HTTP status of that."""
        async with session.lock:
            if session.local_id:
                return 200
            session.scope, session.context = scope, copy_context()
            answer = await self._send_as_client(session, session.client.initialize_request)
            session.local_id = answer.local_id
            if session.local_id:
                await self._send_as_client(session, {"jsonrpc": "2.0", "method": "notifications/initialized"})
                return 200
            return max(answer.status, 503)

    async def _send_as_client(self, session: _Session, message: dict[str, Any]) -> _Response:
        """Send a message to this server as the session's client would."""
        headers = [each for each in session.scope["headers"] if each[0] in {b"host", b"authorization"}]
        headers += [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
        headers += [(_VERSION, session.client.version.encode())] if session.local_id else []
        scope = {**session.scope, "method": "POST", "headers": headers}
        answer = _Response()
        await self._app(_in_session(scope, session.local_id), _Body(json.dumps(message).encode()).replay(), answer.send)
        return answer

    def _add(self, session_id: str, session: _Session) -> None:
        self._sessions[session_id] = session
        while len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]

    async def close(self, session_id: str, _: Scope) -> None:
        """Close a session on this server only. The server that gets the client's next request opens it again."""
        session = self._sessions.pop(session_id, None)
        if session is not None and session.local_id:
            await self._replay(session, None)

    # --- messages between servers ---------------------------------------------------------------------

    def _broadcast(self, session_id: str, **fields: str) -> None:
        text = json.dumps({"from": self._sender, "session": session_id, **fields})
        order = self._orders.setdefault(session_id, asyncio.Lock())
        self._spawn(self._send_broadcast(text, order), copy_context())

    async def _send_broadcast(self, text: str, order: asyncio.Lock) -> None:
        async with order:
            for _ in range(MAX_ATTEMPTS):
                try:
                    await self._server.studio.servers.broadcast(text)
                except SoraError as error:
                    logger.info("the other servers cannot be notified now: %s", error.message)
                else:
                    return
                await anyio.sleep(RETRY_DELAY_S)

    def _receive_broadcast(self, text: str) -> None:
        """Handle a message of another server."""
        try:
            fields: dict[str, str] = json.loads(text)
            session_id, kind = fields["session"], fields["kind"]
        except (ValueError, KeyError, TypeError):
            return
        if fields.get("from") == self._sender:
            return
        session = self._sessions.get(session_id)
        if kind == "ended":
            self._mark_closed(session_id)
        if session is None or not session.local_id:
            return
        if kind == "listens":
            for subscription in session.subscriptions.values():
                self._broadcast(session_id, kind="said", message=subscription)
        else:
            message = json.loads(fields["message"]) if kind == "said" else None
            self._spawn(self._replay(session, message), session.context)

    async def _replay(self, session: _Session, message: dict[str, Any] | None) -> None:
        """Send to this server what a client sent to another; None closes the session."""
        if message is None:
            scope = {**_in_session(session.scope, session.local_id), "method": "DELETE"}
            await self._app(scope, _Body(b"").replay(), _Response().send)
            return
        if "method" in message and "id" in message:  # its id may equal that of a call in progress here
            message = {**message, "id": f"from-another-{secrets.token_hex(8)}"}
        await self._send_as_client(session, message)

    def _mark_closed(self, session_id: str) -> None:
        self._closed[session_id] = None
        while len(self._closed) > MAX_CLOSED:
            del self._closed[next(iter(self._closed))]

    def _spawn(self, coroutine: Coroutine[Any, Any, None], context: Context) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Body:
    """A request's body, read up to the allowed length, which can be replayed any number of times."""

    def __init__(self, content: bytes, messages: list[Message] | None = None, receive: Receive | None = None) -> None:
        self._messages = messages or [{"type": "http.request", "body": content, "more_body": False}]
        self._rest = receive
        self._content = content
        self.message = _parse(content)
        """The parsed message; empty if it is not one."""

    @classmethod
    async def read(cls, receive: Receive) -> _Body:
        """Read a body; only its beginning if it is too long."""
        messages: list[Message] = []
        size, has_more = 0, True
        while has_more and size <= MAX_MESSAGE_BYTES:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            has_more = message.get("more_body", False)
        return cls(b"" if has_more else b"".join(each.get("body", b"") for each in messages), messages, receive)

    @property
    def text(self) -> str:
        return self._content.decode("utf-8", "replace")

    @property
    def is_broadcast(self) -> bool:
        """Whether it is an answer or cancels a call: any server may be waiting for it."""
        is_answer = "method" not in self.message and ("result" in self.message or "error" in self.message)
        return is_answer or self.message.get("method") == "notifications/cancelled"

    @property
    def subscribes(self) -> bool:
        return "id" in self.message and self.message.get("method") in _SUBSCRIBING

    def replay(self) -> Receive:
        """Return a `receive` that yields the body from its beginning."""
        messages = iter(self._messages)

        async def receive() -> Message:
            message = next(messages, None)
            if message is not None:
                return message
            if self._rest is None:
                await anyio.sleep_forever()
                raise AssertionError
            return await self._rest()

        return receive


def _parse(content: bytes) -> dict[str, Any]:
    try:
        message = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


class _Response:
    """A response to a client, which knows the session by the id that is valid on all servers."""

    def __init__(
        self,
        send: Send | None = None,
        session_id: str = "",
        *,
        opens: _Session | None = None,
        passes_404: bool = True,
    ) -> None:
        self._send = send
        self._opens = opens
        self._session_id = session_id.encode()
        self._passes_404 = passes_404
        self.is_unknown = False
        self.local_id = ""
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.local_id = dict(message["headers"]).get(_SESSION, b"").decode()
            if self._opens is not None:
                self._opens.local_id = self.local_id
            headers = [(name, self._session_id if name == _SESSION else value) for name, value in message["headers"]]
            message = {**message, "headers": headers}
            self.is_unknown = self.status == 404 and not self._passes_404
        if self._send is not None and not self.is_unknown:
            await self._send(message)


def _in_session(scope: Scope, local_id: str) -> Scope:
    """Return the request as one of a local session, or of none if `local_id` is empty."""
    headers = [each for each in scope["headers"] if each[0] != _SESSION]
    return {**scope, "headers": [*headers, (_SESSION, local_id.encode())] if local_id else headers}


def _owner() -> str:
    principal = current_principal()
    return "" if principal is None else principal.owner


def _subscription_uri(message: dict[str, Any]) -> str:
    params = message.get("params")
    return str(params.get("uri")) if isinstance(params, dict) else ""
