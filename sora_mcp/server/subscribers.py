"""Whoever wants to be told when a video changes, on both protocol eras.

Until 2025-11-25 a session names resources (`resources/subscribe`) and is told for as long as it stands; from
2026-07-28 on a client keeps a request open (`subscriptions/listen`), which the SDK serves from a bus.
"""

from __future__ import annotations

import logging

import anyio
import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError

from sora_mcp.ledger import Entry
from sora_mcp.server.resources import UNSETTLED, check_uri, video_uri
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Studio]

MOST_URIS = 1000
"""Resources that one session may subscribe to."""
MOST_KNOWN = 1000
"""Videos that are remembered as told, so that a new one is known as new."""
TELL_WITHIN = 5.0
"""Seconds that telling a session may take; one that does not read by then is forgotten."""


class Subscribers:
    """The subscribers of one server, all its sessions together."""

    def __init__(self) -> None:
        self._sessions: dict[Connection, set[str]] = {}
        self._known: dict[str, None] = {}
        self._bus = InMemorySubscriptionBus()
        self.listen = ListenHandler(self._bus)
        """Serves `subscriptions/listen`."""

    def close(self) -> None:
        """End every open `subscriptions/listen`, so that a server can end."""
        self.listen.close()

    async def subscribe(self, ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        """Serve `resources/subscribe`. Raises MCPError where there can be no such resource, or for too many."""
        check_uri(params.uri)
        session = _connection(ctx)
        if session not in self._sessions:
            self._sessions[session] = set()
            session.exit_stack.callback(self._sessions.pop, session, None)
        wanted = self._sessions[session]
        if len(wanted) >= MOST_URIS and params.uri not in wanted:
            raise MCPError(types.INVALID_PARAMS, f"A session may subscribe to {MOST_URIS} resources.")
        wanted.add(params.uri)
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        """Serve `resources/unsubscribe`."""
        self._sessions.get(_connection(ctx), set()).discard(params.uri)
        return types.EmptyResult()

    async def tell(self, entry: Entry) -> None:
        """Tell everybody who wants to know that a video has changed. Never raises."""
        if entry.request_id not in self._known:
            self._known[entry.request_id] = None
            await self._bus.publish(ResourcesListChanged())
        while len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        await self._tell({video_uri(each) for each in (entry.task_id, entry.request_id) if each})

    async def tell_unsettled(self, request_id: str | None) -> None:
        """Tell everybody who wants to know that the outcome of a call of this server is unknown. Never raises."""
        await self._tell({UNSETTLED, *([video_uri(request_id)] if request_id else [])})

    async def _tell(self, uris: set[str]) -> None:
        for uri in uris:
            await self._bus.publish(ResourceUpdated(uri=uri))
        async with anyio.create_task_group() as telling:
            for session, wanted in list(self._sessions.items()):
                for uri in uris & wanted:
                    telling.start_soon(self._tell_session, session, uri)

    async def _tell_session(self, session: Connection, uri: str) -> None:
        with anyio.move_on_after(TELL_WITHIN) as telling:
            try:
                await session.send_resource_updated(uri)
            except Exception:
                logger.exception("a subscriber could not be told")
        if telling.cancelled_caught:
            self._sessions.pop(session, None)


def _connection(ctx: Context) -> Connection:
    """What stands as long as the session: its end is told there, and notifications of no request go there.

    The SDK gives handlers no public way to it.
    """
    return ctx.session._connection  # noqa: SLF001
