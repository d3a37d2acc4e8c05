"""Sessions of the older protocol era, where several servers share a ledger: any of them serves any session.

A session's id says what its client said when it opened it: the revision it speaks, and whether its user can be asked. A
server that meets a session for the first time opens it for itself with that. What a client says to one server and may
be meant for another, such as the answer to a question that another asked, is handed on to all of them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

import anyio
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from msgspec import Struct, field
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_mcp.core.errors import SoraError
from sora_mcp.server.bounds import MOST_BYTES
from sora_mcp.server.principals import current_principal
from sora_mcp.server.subscribers import LONGEST_URI, MOST_URIS
from sora_mcp.server.surface import SoraServer

logger = logging.getLogger(__name__)

MOST_SESSIONS = 10_000
"""Sessions that a server remembers; one that was forgotten is opened again when it is used."""
MOST_ENDED = 1000
"""Sessions that are remembered as ended by their clients."""
MOST_SUBSCRIPTIONS = 2 * MOST_URIS
"""Of one session, those that ended among them."""
LONGEST_MESSAGE = LONGEST_URI + 1000
"""Characters of one that is remembered."""
TRIES, AGAIN_AFTER_S = 15, 2.0
"""How often, and after how many seconds, a message to the other servers is sent again: the ledger may be away."""

_SESSION, _VERSION = MCP_SESSION_ID_HEADER.encode(), MCP_PROTOCOL_VERSION_HEADER.encode()
_PREFIX = "any."
_SUBSCRIBING = {"resources/subscribe", "resources/unsubscribe"}


class _Client(Struct, frozen=True):
    """What a client said when it opened a session. `asks`: the ways in which its user can be asked, None for no way."""

    version: str
    asks: tuple[str, ...] | None

    @classmethod
    def of(cls, params: dict[str, Any]) -> _Client:
        """As the params of `initialize` say."""
        capabilities = params.get("capabilities")
        asking = capabilities.get("elicitation") if isinstance(capabilities, dict) else None
        ways = tuple(way for way in ("form", "url") if way in asking) if isinstance(asking, dict) else None
        version = params.get("protocolVersion")
        return cls(version if version in HANDSHAKE_PROTOCOL_VERSIONS else HANDSHAKE_PROTOCOL_VERSIONS[-1], ways)

    @property
    def opening(self) -> dict[str, Any]:
        """The request by which it would open its session again."""
        capabilities: dict[str, Any] = {} if self.asks is None else {"elicitation": {way: {} for way in self.asks}}
        about = {"name": "client", "version": "1"}
        params = {"protocolVersion": self.version, "capabilities": capabilities, "clientInfo": about}
        return {"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": params}


def _id_of(client: _Client, owner: str) -> str:
    nonce = secrets.token_hex(16)
    asks = None if client.asks is None else list(client.asks)
    text = json.dumps([nonce, _mark(nonce, owner), client.version, asks], separators=(",", ":"))
    return _PREFIX + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _client_of(session_id: str, owner: str) -> _Client | None:
    """Who opened a session, None where it is none of ours, or of another owner."""
    text = session_id.removeprefix(_PREFIX)
    if text == session_id or len(text) > 1000:
        return None
    try:
        nonce, mark, version, asks = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if mark != _mark(nonce, owner) or version not in HANDSHAKE_PROTOCOL_VERSIONS:
            return None
        return _Client(version, None if asks is None else tuple(way for way in ("form", "url") if way in asks))
    except (ValueError, TypeError):
        return None


def _mark(nonce: str, owner: str) -> str:
    """Whose session it is. Whoever makes a request shows that with their token: this is no secret."""
    return hashlib.sha256(f"{nonce} {owner}".encode()).hexdigest()[:32]


class _Session(Struct):
    """A session as it is open here. `own_id`: its id within this server; empty where it has to be opened."""

    client: _Client
    scope: Scope
    own_id: str = ""
    subscriptions: dict[str, str] = field(default_factory=dict)
    """The last message about each resource that it has subscribed to, or does no longer."""
    context: Context = field(default_factory=copy_context)
    opening: anyio.Lock = field(default_factory=anyio.Lock)

    def remember(self, body: _Body) -> None:
        """Remember a message about a subscription; none that is too long to be told, and so many at most."""
        if len(body.text) <= LONGEST_MESSAGE:
            self.subscriptions[_uri(body.message)] = body.text
        while len(self.subscriptions) > MOST_SUBSCRIPTIONS:
            del self.subscriptions[next(iter(self.subscriptions))]


class Sessions:
    """Wraps an MCP endpoint over streamable HTTP."""

    def __init__(self, app: ASGIApp, server: SoraServer) -> None:
        self._app = app
        self._server = server
        self._sender = secrets.token_hex(8)
        self._here: dict[str, _Session] = {}
        self._ended: dict[str, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        server.on_message = self._hear

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
        """Serve a request of no session: `initialize` opens one."""
        message = body.message
        if message.get("method") != "initialize" or not isinstance(params := message.get("params"), dict):
            await self._app(scope, body.replay(), send)
            return
        client = _Client.of(params)
        session_id = _id_of(client, _owner())
        session = _Session(client, scope)
        self._remember(session_id, session)
        await self._app(scope, body.replay(), _Answer(send, session_id, opens=session).send)
        if not session.own_id:
            self._here.pop(session_id, None)

    async def _serve(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        client = None if session_id in self._ended else _client_of(session_id, _owner())
        if client is None:
            await Response("Session not found", status_code=404)(scope, receive, send)
            return
        body = await _Body.read(receive) if scope["method"] == "POST" else None
        is_said = body is not None and body.is_for_any
        if body is not None and (is_said or body.subscribes):
            self._tell_others(session_id, kind="said", message=body.text)
        if scope["method"] == "DELETE":
            self._end(session_id)
            self._tell_others(session_id, kind="ended")
        session = self._here.get(session_id)
        if session is None and (is_said or scope["method"] == "DELETE"):  # it is for another server, if for any
            await Response(status_code=202 if is_said else 200)(scope, receive, send)
            return
        if session is None:
            self._remember(session_id, session := _Session(client, scope))
        if body is not None and body.subscribes:
            session.remember(body)
        await self._forward(session_id, session, scope, body.replay if body else lambda: receive, send)
        if scope["method"] == "DELETE":
            self._here.pop(session_id, None)

    async def _forward(
        self, session_id: str, session: _Session, scope: Scope, body: Callable[[], Receive], send: Send
    ) -> None:
        """Serve a request in a session; one that was idle for so long that it was closed is opened again."""
        for is_last in (False, True):
            if (status := await self._opened(session, scope)) >= 400:
                await Response("The session cannot be opened now.", status_code=status)(scope, body(), send)
                return
            if scope["method"] == "GET":  # the others tell what the session has subscribed to there
                self._tell_others(session_id, kind="listens")
            own_id = session.own_id
            answer = _Answer(send, session_id, keeps_gone=is_last)
            await self._app(_in_session(scope, own_id), body(), answer.send)
            if not answer.is_gone:
                return
            session.own_id = "" if session.own_id == own_id else session.own_id

    async def _opened(self, session: _Session, scope: Scope) -> int:
        """Open a session where it is not; the status of the answer to that."""
        async with session.opening:
            if session.own_id:
                return 200
            session.scope, session.context = scope, copy_context()
            answer = await self._say(session, session.client.opening)
            session.own_id = answer.own_id
            if session.own_id:
                await self._say(session, {"jsonrpc": "2.0", "method": "notifications/initialized"})
                return 200
            return max(answer.status, 503)

    async def _say(self, session: _Session, message: dict[str, Any]) -> _Answer:
        """Say something to this server as the client of a session would."""
        headers = [each for each in session.scope["headers"] if each[0] in {b"host", b"authorization"}]
        headers += [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
        headers += [(_VERSION, session.client.version.encode())] if session.own_id else []
        scope = {**session.scope, "method": "POST", "headers": headers}
        answer = _Answer()
        await self._app(_in_session(scope, session.own_id), _Body(json.dumps(message).encode()).replay(), answer.send)
        return answer

    def _remember(self, session_id: str, session: _Session) -> None:
        self._here[session_id] = session
        while len(self._here) > MOST_SESSIONS:
            del self._here[next(iter(self._here))]

    async def close(self, session_id: str, _: Scope) -> None:
        """Close a session here alone. Whichever server its client turns to opens it again."""
        session = self._here.pop(session_id, None)
        if session is not None and session.own_id:
            await self._pass_on(session, None)

    # --- what concerns other servers ------------------------------------------------------------------

    def _tell_others(self, session_id: str, **what: str) -> None:
        text = json.dumps({"from": self._sender, "session": session_id, **what})
        self._start(self._send_on(text), copy_context())

    async def _send_on(self, text: str) -> None:
        for _ in range(TRIES):
            try:
                await self._server.studio.servers.tell_others(text)
            except SoraError as error:
                logger.info("the other servers cannot be told now: %s", error.message)
            else:
                return
            await anyio.sleep(AGAIN_AFTER_S)

    def _hear(self, text: str) -> None:
        """Another server has told something."""
        try:
            fields: dict[str, str] = json.loads(text)
            session_id, kind = fields["session"], fields["kind"]
        except (ValueError, KeyError, TypeError):
            return
        if fields.get("from") == self._sender:
            return
        session = self._here.get(session_id)
        if kind == "ended":
            self._end(session_id)
        if session is None or not session.own_id:
            return
        if kind == "listens":
            for subscription in session.subscriptions.values():
                self._tell_others(session_id, kind="said", message=subscription)
        else:
            message = json.loads(fields["message"]) if kind == "said" else None
            self._start(self._pass_on(session, message), session.context)

    async def _pass_on(self, session: _Session, message: dict[str, Any] | None) -> None:
        """Say to this server what a client said to another: None, that its session is over."""
        if message is None:
            scope = {**_in_session(session.scope, session.own_id), "method": "DELETE"}
            await self._app(scope, _Body(b"").replay(), _Answer().send)
            return
        if "method" in message and "id" in message:  # its number may be that of a call that is under way here
            message = {**message, "id": f"from-another-{secrets.token_hex(8)}"}
        await self._say(session, message)

    def _end(self, session_id: str) -> None:
        self._ended[session_id] = None
        while len(self._ended) > MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    def _start(self, work: Coroutine[Any, Any, None], context: Context) -> None:
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Body:
    """A request's body, read as far as it may be long, and given as often as it is asked for."""

    def __init__(self, content: bytes, messages: list[Message] | None = None, receive: Receive | None = None) -> None:
        self._messages = messages or [{"type": "http.request", "body": content, "more_body": False}]
        self._rest = receive
        self._content = content
        self.message = _message_of(content)
        """What it says; nothing where it is no message."""

    @classmethod
    async def read(cls, receive: Receive) -> _Body:
        """All of a body; of one that is too long, its beginning."""
        messages: list[Message] = []
        size, goes_on = 0, True
        while goes_on and size <= MOST_BYTES:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            goes_on = message.get("more_body", False)
        return cls(b"" if goes_on else b"".join(each.get("body", b"") for each in messages), messages, receive)

    @property
    def text(self) -> str:
        return self._content.decode("utf-8", "replace")

    @property
    def is_for_any(self) -> bool:
        """Whether it is an answer, or takes a call back: whichever server waits for it."""
        is_answer = "method" not in self.message and ("result" in self.message or "error" in self.message)
        return is_answer or self.message.get("method") == "notifications/cancelled"

    @property
    def subscribes(self) -> bool:
        return "id" in self.message and self.message.get("method") in _SUBSCRIBING

    def replay(self) -> Receive:
        """A `receive` that gives it from its beginning."""
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


def _message_of(content: bytes) -> dict[str, Any]:
    try:
        message = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


class _Answer:
    """An answer on its way to a client, who knows the session by its id for all servers."""

    def __init__(
        self,
        send: Send | None = None,
        session_id: str = "",
        *,
        opens: _Session | None = None,
        keeps_gone: bool = True,
    ) -> None:
        self._send = send
        self._opens = opens
        self._session_id = session_id.encode()
        self._keeps_gone = keeps_gone
        self.is_gone = False
        self.own_id = ""
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.own_id = dict(message["headers"]).get(_SESSION, b"").decode()
            if self._opens is not None:
                self._opens.own_id = self.own_id
            headers = [(name, self._session_id if name == _SESSION else value) for name, value in message["headers"]]
            message = {**message, "headers": headers}
            self.is_gone = self.status == 404 and not self._keeps_gone
        if self._send is not None and not self.is_gone:
            await self._send(message)


def _in_session(scope: Scope, own_id: str) -> Scope:
    """The request as one of a session of this server, of none where that is empty."""
    headers = [each for each in scope["headers"] if each[0] != _SESSION]
    return {**scope, "headers": [*headers, (_SESSION, own_id.encode())] if own_id else headers}


def _owner() -> str:
    principal = current_principal()
    return "" if principal is None else principal.owner


def _uri(message: dict[str, Any]) -> str:
    params = message.get("params")
    return str(params.get("uri")) if isinstance(params, dict) else ""
