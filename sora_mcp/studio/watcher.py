"""Following tasks in the background until they finish, so that their states and short-lived addresses are caught."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Self

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from sora_mcp.config.endpoint import Endpoint
from sora_mcp.core.accounts import Account, Team, canonical_address
from sora_mcp.core.errors import SoraError
from sora_mcp.ledger import Entry, Ledger
from sora_mcp.studio.poller import Poller
from sora_mcp.studio.upstream import TICK, Upstream, pace_of

logger = logging.getLogger(__name__)

MAX_CONCURRENT_QUERIES = 8
"""Queries that run concurrently, and that one round starts; rows polled longest ago come first."""
MAX_CONCURRENT_SAVES = 2
"""Downloads that run concurrently, and that one round starts."""
MAX_ROWS = 200
"""Rows followed at a time (reading them takes 6 ms): the newest, and as they finish, older ones. For a team, the newest
of each of its people, then the second newest of each."""
MAX_YIELDED_ROUNDS = 3
"""Consecutive rounds without queries while creates arrive one after another: creates go first."""
IDLE_POLL_INTERVAL_S = 30.0
"""Seconds between polls of the ledger while nothing is under way: another process may have left a task behind."""

Notify = Callable[[Entry], Awaitable[None]]
"""Receive a row whose state, progress or address changed, whichever process recorded the change."""
WantedIds = Callable[[], set[str]]
"""Return the ids of the videos whose changes a client waits for."""
Save = Callable[[Entry], Awaitable[None]]
"""Download every variant of a finished video."""
UpstreamFor = Callable[[str], Awaitable[Upstream]]
"""Return the gateway with which an owner's videos are queried. Raises SoraError."""


class Followed(Struct, frozen=True):
    """The account or team whose videos are followed. `pace` and `tick` are the gateway's: see `Upstream`."""

    scope: Account | Team
    upstream_for: UpstreamFor
    pace: float

    @classmethod
    def for_account(cls, upstream: Upstream) -> Self:
        """Follow the videos of one account."""

        async def upstream_for(_: str) -> Upstream:
            return upstream

        return cls(upstream.account, upstream_for, upstream.pace)

    @classmethod
    def for_team(cls, endpoint: Endpoint, upstream_for: UpstreamFor) -> Self:
        """Follow the videos of everyone who shares a server."""
        return cls(Team(canonical_address(endpoint.base_url)), upstream_for, pace_of(endpoint))

    @property
    def tick(self) -> float:
        """Seconds between rounds."""
        return min(self.pace, TICK)

    def account_for(self, owner: str) -> Account:
        """Return the account of an owner's rows."""
        return self.scope if isinstance(self.scope, Account) else Account(self.scope.address, owner=owner)


GetFollowed = Callable[[], Awaitable[Followed]]
_VideoKey = tuple[str, str]
"""An owner, and the id of one of their videos."""


class _Listener(Struct, frozen=True, eq=False):
    owner: str
    notify: Notify
    wanted_ids: WantedIds


class Watcher:
    """Queries each task under way when it is due, and notifies listeners of changes."""

    def __init__(self, ledger: Ledger, poller: Poller) -> None:
        self._ledger = ledger
        self._poller = poller
        self._queries = anyio.CapacityLimiter(MAX_CONCURRENT_QUERIES)
        self._saves = anyio.CapacityLimiter(MAX_CONCURRENT_SAVES)
        self._woken = anyio.Event()
        self._woken_at = -math.inf
        self._yielded = 0
        self._snapshots: dict[_VideoKey, _Snapshot] = {}
        self._in_progress: set[str] = set()
        self._listeners: list[_Listener] = []

    def listen(self, owner: str, notify: Notify, wanted_ids: WantedIds) -> Callable[[], None]:
        """Call `notify` with each of an owner's rows that changes, `wanted_ids` among them; the result unsubscribes."""
        listener = _Listener(owner, notify, wanted_ids)
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def wake(self) -> None:
        """Start a round now: a task is newly under way, or a client waits for changes."""
        self._woken_at = anyio.current_time()
        self._woken.set()

    async def run(self, get_followed: GetFollowed, save: Save | None) -> None:
        """Follow everything under way at the gateway, and `save` what has finished, until cancelled.

        A task is queried every `pace` seconds at first, less and less often later, and given up after a day.
        """
        await anyio.sleep(TICK)  # at startup the server's first answer has priority
        async with anyio.create_task_group() as task_group:
            while True:
                self._woken = anyio.Event()
                try:
                    followed = await get_followed() if self._ledger.exists() else None
                    while followed is not None and await self._round(followed, save, task_group):  # noqa: ASYNC110 - gateways send no events
                        await anyio.sleep(followed.tick)
                except SoraError as error:
                    logger.info("nothing can be followed now: %s", error.message)
                except Exception:
                    logger.exception("following failed unexpectedly")  # the server keeps running
                with anyio.move_on_after(TICK if self._wanted_ids() else IDLE_POLL_INTERVAL_S):
                    await self._woken.wait()

    def _wanted_ids(self) -> set[_VideoKey]:
        return {(listener.owner, video_id) for listener in self._listeners for video_id in listener.wanted_ids()}

    async def _round(self, followed: Followed, save: Save | None, task_group: TaskGroup) -> bool:
        """Run one round; return whether another is needed."""
        wanted_ids, should_yield = self._wanted_ids(), self._should_yield(followed)
        if should_yield and not wanted_ids:
            return True
        open_rows = await self._ledger.under_way(followed.scope, MAX_ROWS)
        open_rows += await self._ledger.without_address(followed.scope, MAX_ROWS)
        await self._publish_changes(followed, open_rows, wanted_ids)
        now = self._ledger.now()
        due = [] if should_yield else [entry for entry in open_rows if entry.is_due(now, followed.pace)]
        upstreams = await _upstreams(followed, due)
        due = [entry for entry in due if entry.account in upstreams]
        self._start(task_group, due, self._queries, lambda entry: self._poller.ask(upstreams[entry.account], entry))
        if save is None:
            return bool(open_rows or wanted_ids)
        unsaved = await self._ledger.unsaved(followed.scope, MAX_ROWS)
        due = [entry for entry in unsaved if entry.is_due(now, followed.pace) or _is_new(entry, now)]
        self._start(task_group, due, self._saves, partial(self._save, save))
        return bool(open_rows or wanted_ids or unsaved)

    def _should_yield(self, followed: Followed) -> bool:
        is_recent = anyio.current_time() - self._woken_at < followed.tick
        self._yielded = self._yielded + 1 if is_recent and self._yielded < MAX_YIELDED_ROUNDS else 0
        return self._yielded > 0

    def _start(
        self,
        task_group: TaskGroup,
        due: list[Entry],
        limiter: anyio.CapacityLimiter,
        job: Callable[[Entry], Awaitable[object]],
    ) -> None:
        """Start as many jobs as the limiter has tokens for; rows polled longest ago come first."""

        async def run(entry: Entry) -> None:
            try:
                async with limiter:
                    await job(entry)
            except SoraError as error:
                logger.info("following %s: %s", entry.id, error.message)
            except Exception:
                logger.exception("following %s failed unexpectedly", entry.id)
            finally:
                self._in_progress.discard(entry.request_id)

        idle = [entry for entry in due if entry.request_id not in self._in_progress]
        for entry in sorted(idle, key=lambda e: e.polled_at or 0)[: int(limiter.available_tokens)]:
            self._in_progress.add(entry.request_id)
            task_group.start_soon(run, entry)

    async def _save(self, save: Save, entry: Entry) -> None:
        async with self._ledger.lease(entry.request_id, expected=entry) as is_leased:
            if is_leased:
                await save(entry)

    async def _publish_changes(self, followed: Followed, open_rows: list[Entry], wanted_ids: set[_VideoKey]) -> None:
        """Notify of changes since the last round in rows that were or are open, and in wanted ones."""
        open_ids = set().union(*map(_ids, open_rows))
        others = [
            await self._ledger.find(followed.account_for(owner), video_id)
            for owner, video_id in (self._snapshots.keys() | wanted_ids) - open_ids
        ]
        snapshots = {_key(entry): (entry, _snapshot(entry)) for entry in (*open_rows, *others) if entry is not None}
        changed = [entry for key, (entry, snapshot) in snapshots.items() if self._snapshots.get(key) != snapshot]
        followed_ids = open_ids | wanted_ids
        self._snapshots = {
            _key(entry): snapshot for entry, snapshot in snapshots.values() if not followed_ids.isdisjoint(_ids(entry))
        }
        for entry in changed:
            for listener in self._listeners:
                if listener.owner == entry.account.owner:
                    await listener.notify(entry)


async def _upstreams(followed: Followed, due: Iterable[Entry]) -> dict[Account, Upstream]:
    """Return the gateway of each owner of these rows, by account. A video made with another key than its owner has now
    is only queried with that key."""
    upstreams: dict[Account, Upstream] = {}
    for owner in {entry.account.owner for entry in due}:
        try:
            upstream = await followed.upstream_for(owner)
        except SoraError as error:
            logger.info("the videos of %s cannot be followed now: %s", owner or "nobody", error.message)
        else:
            upstreams[upstream.account] = upstream
    return upstreams


_Snapshot = tuple[str, int | None, bool]


def _snapshot(entry: Entry) -> _Snapshot:
    """Return the fields whose changes are published."""
    return entry.state, entry.progress, any(generation.url for generation in entry.generations)


def _key(entry: Entry) -> _VideoKey:
    return entry.account.owner, entry.request_id


def _ids(entry: Entry) -> set[_VideoKey]:
    return {(entry.account.owner, each) for each in (entry.request_id, entry.task_id) if each}


def _is_new(entry: Entry, now: float) -> bool:
    """Whether no attempt has failed yet: a video that has just finished is saved at once."""
    return entry.failed_polls == 0 and entry.may_be_polled(now)
