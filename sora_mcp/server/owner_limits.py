"""Limits for each owner on a shared server: open requests, and sessions of the older protocol era."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.transport_security import RequestBodyLimitMiddleware
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import INVALID_REQUEST
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from msgspec import Struct
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_mcp.runtime.listening import max_connections
from sora_mcp.server.bounds import MAX_MESSAGE_BYTES, explain_413, read_ahead
from sora_mcp.server.compatibility import error_response
from sora_mcp.server.principals import current_principal

MAX_SESSIONS = 1000
"""Sessions of one owner: about 50 MB. Ten owners may have that many before the server has its 10,000."""
MAX_OWNERS = 1000
"""Owners whose sessions are counted; beyond that the first owner's sessions are left to expire by themselves."""
_CONNECTION_SHARE = 2
"""One owner's requests may use the connections divided by this. Two hundred agents of one account, each with a stream
and a call, fit in."""
_MIN_REQUESTS = 16
"""Requests of one owner that may always be open, however few connections there are."""
MAX_BODY_BYTES = 4 * MAX_MESSAGE_BYTES
"""Bytes of the bodies of one owner's open requests together: they stay in memory as long as the requests are open."""
MAX_INITIALIZE_BYTES = 64_000
"""Bytes of the message that opens a session: it stays in memory as long as the session."""
TOO_MANY_HEADERS = {"Retry-After": "5"}
"""Headers for 429: when an owner at the limit may try again."""

_SESSION, _VERSION = MCP_SESSION_ID_HEADER.encode(), MCP_PROTOCOL_VERSION_HEADER.encode()


class LimitReached(Exception):
    """The owner has reached `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class OwnerLimit:
    """Counts what each owner uses of something. `limit`: the most that one owner may use at the same time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = Counter[str]()

    def acquire(self, owner: str, amount: int = 1) -> None:
        """Count `amount` more for an owner. Raise LimitReached."""
        if self._used[owner] + amount > self._limit:
            raise LimitReached(self._limit)
        self._used[owner] += amount

    def release(self, owner: str, amount: int = 1) -> None:
        """Count `amount` less for an owner."""
        self._used[owner] -= amount
        if not self._used[owner]:  # forget owners that use nothing
            del self._used[owner]

    @contextmanager
    def slot(self, owner: str) -> Iterator[None]:
        """Count one more for an owner while the context is open. Raise LimitReached."""
        self.acquire(owner)
        try:
            yield
        finally:
            self.release(owner)


class OpenRequests:
    """Wraps an app: limits each owner's requests that are not completely answered, including streams, and the total
    size of their bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._bodies = OwnerLimit(MAX_BODY_BYTES)
        self._requests = OwnerLimit(max(max_connections() // _CONNECTION_SHARE, _MIN_REQUESTS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = current_principal()
        if principal is None:
            await self._app(scope, receive, send)
            return
        body_bytes = 0

        def count_bytes(n_bytes: int) -> None:
            nonlocal body_bytes
            self._bodies.acquire(principal.owner, n_bytes)
            body_bytes += n_bytes

        try:
            with self._requests.slot(principal.owner):
                if scope["method"] == "POST":
                    _, receive = await read_ahead(receive, count_bytes)
                await self._app(scope, receive, send)
        except LimitReached as error:
            await _refusal(error.limit)(scope, receive, send)
        finally:
            self._bodies.release(principal.owner, body_bytes)


def _refusal(limit: int) -> Response:
    used = f"{limit} requests" if limit < MAX_BODY_BYTES else f"requests of {limit // 1_000_000} MB"
    message = (
        f"You have {used} open on this server, the most that one person may have; streams and waiting calls count. "
        "Nothing was done or submitted. Close some of them, or try again once some have been answered."
    )
    response = error_response(429, INVALID_REQUEST, message)
    response.headers.update(TOO_MANY_HEADERS)
    return response


CloseSession = Callable[[str, Scope], Awaitable[None]]
"""Closes the session with an id; the scope is that of a request made in it."""


class _Session(Struct):
    scope: Scope
    under_way: int = 0


class OwnerSessions:
    """Wraps an MCP endpoint: if an owner opens more than MAX_SESSIONS sessions, their longest idle one is closed. Its
    client gets a 404 at its next request, and opens another (2025-11-25, basic/transports). OpenRequests allows no
    owner that many open requests, so one of the sessions is always idle.
    """

    def __init__(self, app: ASGIApp, close: CloseSession) -> None:
        self._app = app
        self._opening = explain_413(RequestBodyLimitMiddleware(app, MAX_INITIALIZE_BYTES), MAX_INITIALIZE_BYTES)
        self._close = close
        self._owners: dict[str, dict[str, _Session]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = current_principal()
        if scope["type"] != "http" or principal is None:
            await self._app(scope, receive, send)
            return
        sessions = self._owner_sessions(principal.owner)
        request = _SessionRequest(sessions, scope, send, self._close)
        try:
            await (self._opening if request.opens else self._app)(scope, receive, request.send)
        finally:
            request.finish()

    def _owner_sessions(self, owner: str) -> dict[str, _Session]:
        sessions = self._owners.setdefault(owner, {})
        while len(self._owners) > MAX_OWNERS:
            del self._owners[next(iter(self._owners))]
        return sessions


class _SessionRequest:
    """A request, and the session that it uses or opens. `sessions`: the owner's, longest idle first."""

    def __init__(self, sessions: dict[str, _Session], scope: Scope, send: Send, close: CloseSession) -> None:
        self._sessions = sessions
        self._scope = scope
        self._send = send
        self._close = close
        headers = dict(scope["headers"])
        self._id = headers.get(_SESSION, b"").decode("latin-1")
        self.opens = not self._id and headers.get(_VERSION, b"").decode("latin-1") in {"", *HANDSHAKE_PROTOCOL_VERSIONS}
        self._session = sessions.get(self._id)
        self._is_unknown = False
        if self._session is not None:
            self._session.under_way += 1

    async def send(self, message: Message) -> None:
        """Forward the response, and note whether it opens a session or says that there is none."""
        if message["type"] == "http.response.start":
            session_id = dict(message["headers"]).get(_SESSION, b"").decode("latin-1")
            self._is_unknown = message["status"] == 404
            if self._scope["method"] == "DELETE" and message["status"] < 400:
                self._sessions.pop(self._id, None)
            elif self._session is None and session_id and message["status"] < 400:
                await self._open(session_id)
        await self._send(message)

    def finish(self) -> None:
        """Note that the request was answered: its session may be idle from now on."""
        if self._session is not None:
            self._session.under_way -= 1
            if not self._is_unknown and self._sessions.pop(self._id, None) is not None:
                self._sessions[self._id] = self._session

    async def _open(self, session_id: str) -> None:
        host = [each for each in self._scope["headers"] if each[0] == b"host"]
        session = _Session({**self._scope, "headers": host})
        self._id, self._session = session_id, self._sessions.setdefault(session_id, session)
        self._session.under_way += 1
        idle = [each for each, session in self._sessions.items() if not session.under_way]
        for each in idle[: max(0, len(self._sessions) - MAX_SESSIONS)]:
            await self._close(each, self._sessions.pop(each).scope)


def session_closer(app: ASGIApp) -> CloseSession:
    """Return a function that closes a session as its client would, by a DELETE to the endpoint."""

    async def close(session_id: str, scope: Scope) -> None:
        headers = [*scope["headers"], (_SESSION, session_id.encode("latin-1"))]
        await app({**scope, "method": "DELETE", "headers": headers}, _no_body, _discard)

    return close


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _discard(_: Message) -> None: ...
