"""Give a session's stream of notifications to whoever opened it last.

A client whose connection vanished without a word, as on another network or after a sleep, opens its stream again. The
SDK would refuse that as long as the old one seems to be open, which may be a quarter of an hour.
"""

from __future__ import annotations

import anyio
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from starlette.types import ASGIApp, Receive, Scope, Send

from sora_mcp.server.principals import current_principal
from sora_mcp.server.receiving import ClosableReceive


class _Stream:
    def __init__(self, receive: Receive) -> None:
        self.receive = ClosableReceive(receive)
        self.ended = anyio.Event()


class SessionStreams:
    """Wraps the SDK's endpoint: a GET ends the stream that an earlier one of the same caller opened in its session."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._streams: dict[tuple[str, bytes], _Stream] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session_id = dict(scope["headers"]).get(MCP_SESSION_ID_HEADER.encode()) if scope["type"] == "http" else None
        if session_id is None or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        principal = current_principal()
        key = ("" if principal is None else principal.owner, session_id)
        earlier, stream = self._streams.get(key), _Stream(receive)
        self._streams[key] = stream
        try:
            if earlier is not None:
                earlier.receive.close()
                await earlier.ended.wait()
            await self._app(scope, stream.receive, send)
        finally:
            stream.ended.set()
            if self._streams[key] is stream:
                del self._streams[key]
