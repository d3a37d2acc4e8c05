"""Notify clients when a video changes, in both protocol eras.

Until 2025-11-25 a session names resources (`resources/subscribe`) and is notified as long as it is open; from
2026-07-28 on a client keeps a request open (`subscriptions/listen`), which the SDK serves from a bus.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError

from sora_mcp.ledger import Entry
from sora_mcp.server.addresses import video_uri
from sora_mcp.server.resources import UNSETTLED, find, is_state, video_id_from
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Studio]

MAX_URIS = 1000
"""Resources that one session, or one open request, may subscribe to."""
MAX_WATCHED = 5000
"""The same for all sessions and requests of an owner together: each is looked up in the ledger once a second."""
MAX_URI_LENGTH = 4096
"""Characters of an address: an id has up to 300, and each may take twelve when percent-encoded."""
MAX_KNOWN = 1000
"""Videos that are remembered as announced, so that a new one is recognized."""
NOTIFY_TIMEOUT_S = 5.0
"""Seconds to notify a session; one that does not read by then is dropped."""


MAX_OWNERS = 1000
"""Owners whose subscribers are stored; beyond that those without subscriptions are dropped."""


class SubscriberRegistry:
    """The subscribers of one server, by owner: nobody is notified of another owner's videos."""

    def __init__(self) -> None:
        self._by_owner: dict[str, Subscribers] = {}
        self._forget: dict[str, Callable[[], None]] = {}

    def follow(self, studio: Studio) -> Callable[[], None]:
        """Notify of changes in a studio, until the returned function is called."""
        subscribers = self._by_owner.setdefault(studio.settings.owner or "", Subscribers())
        return studio.on_change(subscribers.notify, subscribers.watched_ids)

    def get(self, studio: Studio) -> Subscribers:
        """Return the subscribers to changes in a studio."""
        owner = studio.settings.owner or ""
        if owner not in self._by_owner:
            self._forget_idle()
            self._forget[owner] = self.follow(studio)
        return self._by_owner[owner]

    @property
    def open_requests(self) -> int:
        """How many `subscriptions/listen` are open: each stays so until it is ended."""
        return sum(subscribers.open_requests for subscribers in self._by_owner.values())

    def close(self) -> None:
        """End every open `subscriptions/listen`, so that a server can end."""
        for subscribers in self._by_owner.values():
            subscribers.close()

    def forget_all(self) -> None:
        """Stop notifying all subscribers."""
        for owner in list(self._forget):
            self._forget_one(owner)

    def _forget_idle(self) -> None:
        if len(self._by_owner) >= MAX_OWNERS:
            for owner in [each for each, subscribers in self._by_owner.items() if subscribers.is_idle]:
                self._forget_one(owner)

    def _forget_one(self, owner: str) -> None:
        self._forget.pop(owner)()
        del self._by_owner[owner]


class Subscribers:
    """The subscribers to the videos of one owner, all their sessions together."""

    def __init__(self) -> None:
        self._sessions: dict[Connection, set[str]] = {}
        self._known: dict[str, None] = {}
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus)
        self._listening: dict[object, set[str]] = {}

    def close(self) -> None:
        """End every open `subscriptions/listen`, so that a server can end."""
        self._listen.close()

    @property
    def is_idle(self) -> bool:
        """Whether there are no subscriptions."""
        return not (self._sessions or self._listening)

    @property
    def open_requests(self) -> int:
        """How many `subscriptions/listen` are open: each stays so until it is ended."""
        return len(self._listening)

    @property
    def _subscribed(self) -> list[set[str]]:
        """The resources that each session and each open request has named."""
        return [*self._sessions.values(), *self._listening.values()]

    def watched_ids(self) -> set[str]:
        """Return the ids of the videos that any subscriber has named."""
        return {video_id for uri in set().union(*self._subscribed) if (video_id := video_id_from(uri))}

    async def listen(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve `subscriptions/listen`. Raise MCPError for too many resources."""
        uris = set(params.notifications.resource_subscriptions or [])
        _check_length(uris)
        _check_number(uris, MAX_URIS)
        _check_number(uris.union(*self._subscribed), MAX_WATCHED)
        request = object()
        self._listening[request] = uris
        ctx.lifespan_context.wake()
        try:
            return await self._listen(ctx, params)
        finally:
            del self._listening[request]

    async def subscribe(self, ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        """Serve `resources/subscribe`. Raise MCPError if there is no such resource, or for too many."""
        _check_length({params.uri})
        find(params.uri)
        session = _connection(ctx)
        if session not in self._sessions:
            self._sessions[session] = set()
            session.exit_stack.callback(self._sessions.pop, session, None)
        _check_number(self._sessions[session] | {params.uri}, MAX_URIS)
        _check_number({params.uri}.union(*self._subscribed), MAX_WATCHED)
        self._sessions[session].add(params.uri)
        ctx.lifespan_context.wake()
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        """Serve `resources/unsubscribe`."""
        self._sessions.get(_connection(ctx), set()).discard(params.uri)
        return types.EmptyResult()

    async def notify(self, entry: Entry) -> None:
        """Notify the subscribers that a video has changed. Never raise."""
        if entry.request_id not in self._known:
            self._known[entry.request_id] = None
            await self._bus.publish(ResourcesListChanged())
        while len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        await self._publish(self._state_uris({each for each in (entry.task_id, entry.request_id) if each}))

    async def notify_unsettled(self, request_id: str | None) -> None:
        """Notify the subscribers that a call of this server has an unknown outcome. Never raise."""
        await self._publish({UNSETTLED.uri} | self._state_uris({request_id} if request_id else set()))

    def _state_uris(self, ids: set[str]) -> set[str]:
        """Return the addresses of a video's state: canonical, and as subscribers spelt them (`%2f` is `%2F`)."""
        watched = set().union(*self._subscribed)
        return set(map(video_uri, ids)) | {uri for uri in watched if video_id_from(uri) in ids and is_state(uri)}

    async def _publish(self, uris: set[str]) -> None:
        for uri in uris:
            await self._bus.publish(ResourceUpdated(uri=uri))
        async with anyio.create_task_group() as tasks:
            for session, watched in list(self._sessions.items()):
                for uri in uris & watched:
                    tasks.start_soon(self._notify_session, session, uri)

    async def _notify_session(self, session: Connection, uri: str) -> None:
        with anyio.move_on_after(NOTIFY_TIMEOUT_S) as scope:
            try:
                await session.send_resource_updated(uri)
            except Exception:
                logger.exception("a subscriber could not be notified")
        if scope.cancelled_caught:
            self._sessions.pop(session, None)


def _check_length(uris: set[str]) -> None:
    if any(len(uri) > MAX_URI_LENGTH for uri in uris):
        raise MCPError(types.INVALID_PARAMS, f"The address of a resource has at most {MAX_URI_LENGTH} characters.")


def _check_number(uris: set[str], limit: int) -> None:
    if len(uris) > limit:
        raise MCPError(types.INVALID_PARAMS, f"One may subscribe to {limit} resources.")


def _connection(ctx: Context) -> Connection:
    """Return the connection, which lives as long as the session, and takes an exit callback and notifications without a
    request.

    The SDK gives handlers no public way to it.
    """
    return ctx.session._connection  # noqa: SLF001
