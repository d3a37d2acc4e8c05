"""Whoever wants to be told when a video changes, on both protocol eras.

Until 2025-11-25 a session names resources (`resources/subscribe`) and is told for as long as it stands; from
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
from sora_mcp.server.resources import UNSETTLED, find, is_state, video_of
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Studio]

MOST_URIS = 1000
"""Resources that one session, or one open request, may subscribe to."""
MOST_WANTED = 5000
"""The same for all sessions and requests of an owner together: each is looked for in the ledger once a second."""
LONGEST_URI = 4096
"""Characters of one of them: an id has up to 300, of which each may be percent-encoded as twelve."""
MOST_KNOWN = 1000
"""Videos that are remembered as told, so that a new one is known as new."""
TELL_WITHIN = 5.0
"""Seconds that telling a session may take; one that does not read by then is forgotten."""


MOST_OWNERS = 1000
"""Owners whose subscribers are remembered; beyond that those are forgotten who wait for nothing now."""


class Audiences:
    """The subscribers of one server, by whose videos they are told of: nobody is told of another owner's."""

    def __init__(self) -> None:
        self._of_owners: dict[str, Subscribers] = {}
        self._forget: dict[str, Callable[[], None]] = {}

    def follow(self, studio: Studio) -> Callable[[], None]:
        """Tell of what changes in a studio; the result ends that."""
        subscribers = self._of_owners.setdefault(studio.settings.owner or "", Subscribers())
        return studio.on_change(subscribers.tell, subscribers.wanted)

    def of(self, studio: Studio) -> Subscribers:
        """Those who are told of what changes in a studio."""
        owner = studio.settings.owner or ""
        if owner not in self._of_owners:
            self._forget_idle()
            self._forget[owner] = self.follow(studio)
        return self._of_owners[owner]

    @property
    def open_requests(self) -> int:
        """How many `subscriptions/listen` are open: each stands until it is ended."""
        return sum(subscribers.open_requests for subscribers in self._of_owners.values())

    def close(self) -> None:
        """End every open `subscriptions/listen`, so that a server can end."""
        for subscribers in self._of_owners.values():
            subscribers.close()

    def forget_all(self) -> None:
        """Tell nobody any more."""
        for owner in list(self._forget):
            self._forget_one(owner)

    def _forget_idle(self) -> None:
        if len(self._of_owners) >= MOST_OWNERS:
            for owner in [each for each, subscribers in self._of_owners.items() if subscribers.is_idle]:
                self._forget_one(owner)

    def _forget_one(self, owner: str) -> None:
        self._forget.pop(owner)()
        del self._of_owners[owner]


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
        """Whether nobody waits for anything."""
        return not (self._sessions or self._listening)

    @property
    def open_requests(self) -> int:
        """How many `subscriptions/listen` are open: each stands until it is ended."""
        return len(self._listening)

    @property
    def _subscribed(self) -> list[set[str]]:
        """The resources that each session and each open request has named."""
        return [*self._sessions.values(), *self._listening.values()]

    def wanted(self) -> set[str]:
        """The ids of the videos that anybody has named."""
        return {video_id for uri in set().union(*self._subscribed) if (video_id := video_of(uri))}

    async def listen(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve `subscriptions/listen`. Raises MCPError for too many resources."""
        uris = set(params.notifications.resource_subscriptions or [])
        _check_length(uris)
        _check_number(uris, MOST_URIS)
        _check_number(uris.union(*self._subscribed), MOST_WANTED)
        request = object()
        self._listening[request] = uris
        ctx.lifespan_context.wake()
        try:
            return await self._listen(ctx, params)
        finally:
            del self._listening[request]

    async def subscribe(self, ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        """Serve `resources/subscribe`. Raises MCPError where there can be no such resource, or for too many."""
        _check_length({params.uri})
        find(params.uri)
        session = _connection(ctx)
        if session not in self._sessions:
            self._sessions[session] = set()
            session.exit_stack.callback(self._sessions.pop, session, None)
        _check_number(self._sessions[session] | {params.uri}, MOST_URIS)
        _check_number({params.uri}.union(*self._subscribed), MOST_WANTED)
        self._sessions[session].add(params.uri)
        ctx.lifespan_context.wake()
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
        await self._tell(self._uris_of({each for each in (entry.task_id, entry.request_id) if each}))

    async def tell_unsettled(self, request_id: str | None) -> None:
        """Tell everybody who wants to know that the outcome of a call of this server is unknown. Never raises."""
        await self._tell({UNSETTLED.uri} | self._uris_of({request_id} if request_id else set()))

    def _uris_of(self, ids: set[str]) -> set[str]:
        """The addresses of a video's state: ours, and as subscribers have spelt them (`%2f` is `%2F`)."""
        wanted = set().union(*self._subscribed)
        return set(map(video_uri, ids)) | {uri for uri in wanted if video_of(uri) in ids and is_state(uri)}

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


def _check_length(uris: set[str]) -> None:
    if any(len(uri) > LONGEST_URI for uri in uris):
        raise MCPError(types.INVALID_PARAMS, f"The address of a resource has at most {LONGEST_URI} characters.")


def _check_number(uris: set[str], most: int) -> None:
    if len(uris) > most:
        raise MCPError(types.INVALID_PARAMS, f"One may subscribe to {most} resources.")


def _connection(ctx: Context) -> Connection:
    """What stands as long as the session: its end is told there, and notifications of no request go there.

    The SDK gives handlers no public way to it.
    """
    return ctx.session._connection  # noqa: SLF001
