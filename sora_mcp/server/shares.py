"""What one owner may hold of a server that people share: open requests, and sessions of the older protocol era."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import mcp_types as types
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.transport_security import RequestBodyLimitMiddleware
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from msgspec import Struct
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_mcp.runtime.listening import most_connections
from sora_mcp.server.bounds import MOST_BYTES, in_words, read_ahead
from sora_mcp.server.principals import current_principal

MOST_SESSIONS = 1000
"""Sessions of one owner: about 50 MB. Ten people may have so many before the server has its 10,000."""
MOST_OWNERS = 1000
"""Owners whose sessions are counted; beyond that those of the first one are left to end by themselves."""
_SHARE = 2
"""One of so many parts of the connections is what one owner's requests may take up. Two hundred agents of one account,
each with a stream and a call, fit in."""
_LEAST_REQUESTS = 16
"""Requests of one owner that may always be open, however few the connections are."""
MOST_BODY_BYTES = 4 * MOST_BYTES
"""Of the bodies of one owner's open requests together: they are in memory for as long as these are open."""
MOST_OPENING_BYTES = 64_000
"""Of the message that opens a session, which is in memory for as long as the session."""
TRY_LATER = {"Retry-After": "5"}
"""Seconds after which whoever has used up a share may try again, as a header."""

_SESSION, _VERSION = MCP_SESSION_ID_HEADER.encode(), MCP_PROTOCOL_VERSION_HEADER.encode()


class ShareUsedUp(Exception):
    """The owner has as much under way as one may have: `most`."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most


class Share:
    """Counts what each owner has under way. `most`: so much of it at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way = Counter[str]()

    def take(self, owner: str, amount: int = 1) -> None:
        """`amount` more is an owner's. Raises ShareUsedUp."""
        if self._under_way[owner] + amount > self._most:
            raise ShareUsedUp(self._most)
        self._under_way[owner] += amount

    def give_back(self, owner: str, amount: int = 1) -> None:
        """So much of it has ended."""
        self._under_way[owner] -= amount
        if not self._under_way[owner]:  # forget whoever has nothing under way
            del self._under_way[owner]

    @contextmanager
    def one_more(self, owner: str) -> Iterator[None]:
        """One more of an owner's, until this ends. Raises ShareUsedUp."""
        self.take(owner)
        try:
            yield
        finally:
            self.give_back(owner)


class OpenRequests:
    """Wraps an app: each owner's requests that are not answered whole are bounded, streams among them, and so are
    their bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._bodies = Share(MOST_BODY_BYTES)
        self._requests = Share(max(most_connections() // _SHARE, _LEAST_REQUESTS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = current_principal()
        if principal is None:
            await self._app(scope, receive, send)
            return
        held_bytes = 0

        def hold(n_bytes: int) -> None:
            nonlocal held_bytes
            self._bodies.take(principal.owner, n_bytes)
            held_bytes += n_bytes

        try:
            with self._requests.one_more(principal.owner):
                if scope["method"] == "POST":
                    _, receive = await read_ahead(receive, hold)
                await self._app(scope, receive, send)
        except ShareUsedUp as used_up:
            await _refusal(used_up.most)(scope, receive, send)
        finally:
            self._bodies.give_back(principal.owner, held_bytes)


def _refusal(most: int) -> Response:
    held = f"{most} requests" if most < MOST_BODY_BYTES else f"requests of {most // 1_000_000} MB"
    message = (
        f"You have {held} open here, as many as one person may have: streams and calls that wait. Nothing was done or "
        "submitted. End some of them, or try again when some were answered."
    )
    error = types.JSONRPCError(
        jsonrpc="2.0", id=None, error=types.ErrorData(code=types.INVALID_REQUEST, message=message)
    )
    body = error.model_dump_json(by_alias=True, exclude_unset=True)
    return Response(body, status_code=429, headers=TRY_LATER, media_type="application/json")


CloseSession = Callable[[str, Scope], Awaitable[None]]
"""Closes the session of an id; the scope is of a request that was made in it."""


class _Session(Struct):
    scope: Scope
    under_way: int = 0


class OwnersSessions:
    """Wraps an MCP endpoint: where an owner opens one session more than MOST_SESSIONS, that of theirs is closed which
    was idle longest. Its client is told at its next request that it is gone, and opens another (2025-11-25,
    basic/transports). OpenRequests lets nobody have so many under way, so one of them is always idle.
    """

    def __init__(self, app: ASGIApp, close: CloseSession) -> None:
        self._app = app
        self._opening = in_words(RequestBodyLimitMiddleware(app, MOST_OPENING_BYTES), MOST_OPENING_BYTES)
        self._close = close
        self._owners: dict[str, dict[str, _Session]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = current_principal()
        if scope["type"] != "http" or principal is None:
            await self._app(scope, receive, send)
            return
        sessions = self._sessions_of(principal.owner)
        use = _Use(sessions, scope, send, self._close)
        try:
            await (self._opening if use.opens else self._app)(scope, receive, use.send)
        finally:
            use.end()

    def _sessions_of(self, owner: str) -> dict[str, _Session]:
        sessions = self._owners.setdefault(owner, {})
        while len(self._owners) > MOST_OWNERS:
            del self._owners[next(iter(self._owners))]
        return sessions


class _Use:
    """A request, and the session that it uses or opens. `sessions`: those of its owner, the longest idle first."""

    def __init__(self, sessions: dict[str, _Session], scope: Scope, send: Send, close: CloseSession) -> None:
        self._sessions = sessions
        self._scope = scope
        self._send = send
        self._close = close
        headers = dict(scope["headers"])
        self._id = headers.get(_SESSION, b"").decode("latin-1")
        self.opens = not self._id and headers.get(_VERSION, b"").decode("latin-1") in {"", *HANDSHAKE_PROTOCOL_VERSIONS}
        self._session = sessions.get(self._id)
        self._is_gone = False
        if self._session is not None:
            self._session.under_way += 1

    async def send(self, message: Message) -> None:
        """Pass on the answer. It says which session was opened, or that there is none any more."""
        if message["type"] == "http.response.start":
            told = dict(message["headers"]).get(_SESSION, b"").decode("latin-1")
            self._is_gone = message["status"] == 404
            if self._scope["method"] == "DELETE" and message["status"] < 400:
                self._sessions.pop(self._id, None)
            elif self._session is None and told and message["status"] < 400:
                await self._open(told)
        await self._send(message)

    def end(self) -> None:
        """The request was answered: from now on its session may be idle."""
        if self._session is not None:
            self._session.under_way -= 1
            if not self._is_gone and self._sessions.pop(self._id, None) is not None:
                self._sessions[self._id] = self._session

    async def _open(self, session_id: str) -> None:
        host = [each for each in self._scope["headers"] if each[0] == b"host"]
        session = _Session({**self._scope, "headers": host})
        self._id, self._session = session_id, self._sessions.setdefault(session_id, session)
        self._session.under_way += 1
        idle = [each for each, session in self._sessions.items() if not session.under_way]
        for each in idle[: max(0, len(self._sessions) - MOST_SESSIONS)]:
            await self._close(each, self._sessions.pop(each).scope)


def closed_by(app: ASGIApp) -> CloseSession:
    """Closes a session as its client would, by a DELETE to the endpoint."""

    async def close(session_id: str, scope: Scope) -> None:
        headers = [*scope["headers"], (_SESSION, session_id.encode("latin-1"))]
        await app({**scope, "method": "DELETE", "headers": headers}, _no_body, _unheard)

    return close


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _unheard(_: Message) -> None: ...
