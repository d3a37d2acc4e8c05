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

AT_ONCE = 8
"""Queries that run at once, and that are begun in one round; whoever was looked at longest ago comes first."""
SAVES_AT_ONCE = 2
"""The same for downloads."""
MOST = 200
"""Rows that are followed at once (reading them takes 6 ms): the newest, and as they finish, older ones. Of a team
these are the newest of each of its people, then the second of each."""
GIVE_WAY_ROUNDS = 3
"""Rounds in a row in which nothing is asked because creates come one after another, which go first."""
IDLE_S = 30.0
"""Seconds between two looks at the ledger while nothing is under way: another process may have left something."""

Told = Callable[[Entry], Awaitable[None]]
"""Told a row whose state, progress or address changed, whichever process found out."""
Wanted = Callable[[], set[str]]
"""The ids of the videos that somebody waits to be told about."""
Save = Callable[[Entry], Awaitable[None]]
"""Download every variant of a finished video."""
UpstreamOf = Callable[[str], Awaitable[Upstream]]
"""The gateway as an owner's videos are asked about there. Raises SoraError."""


class Followed(Struct, frozen=True):
    """Whose videos are followed. `pace` and `tick` are the gateway's: see `Upstream`."""

    whose: Account | Team
    upstream_of: UpstreamOf
    pace: float

    @classmethod
    def of_one(cls, upstream: Upstream) -> Self:
        """The videos of one account."""

        async def upstream_of(_: str) -> Upstream:
            return upstream

        return cls(upstream.account, upstream_of, upstream.pace)

    @classmethod
    def of_team(cls, endpoint: Endpoint, upstream_of: UpstreamOf) -> Self:
        """The videos of all who share a server."""
        return cls(Team(canonical_address(endpoint.base_url)), upstream_of, pace_of(endpoint))

    @property
    def tick(self) -> float:
        """Seconds between two rounds."""
        return min(self.pace, TICK)

    def account_of(self, owner: str) -> Account:
        """The account under which an owner's rows are found."""
        return self.whose if isinstance(self.whose, Account) else Account(self.whose.address, owner=owner)


Follow = Callable[[], Awaitable[Followed]]
_Id = tuple[str, str]
"""An owner, and the id of one of their videos."""


class _Listener(Struct, frozen=True, eq=False):
    owner: str
    tell: Told
    wanted: Wanted


class Watcher:
    """Asks about everything under way when its time has come, and tells what changed."""

    def __init__(self, ledger: Ledger, poller: Poller) -> None:
        self._ledger = ledger
        self._poller = poller
        self._queries = anyio.CapacityLimiter(AT_ONCE)
        self._saves = anyio.CapacityLimiter(SAVES_AT_ONCE)
        self._woken = anyio.Event()
        self._woken_at = -math.inf
        self._gave_way = 0
        self._seen: dict[_Id, _Look] = {}
        self._at_work: set[str] = set()
        self._listeners: list[_Listener] = []

    def listen(self, owner: str, tell: Told, wanted: Wanted) -> Callable[[], None]:
        """Have an owner's rows told that change, and look after those that are `wanted`; the result ends that."""
        listener = _Listener(owner, tell, wanted)
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def wake(self) -> None:
        """Something new is under way, or somebody waits to be told."""
        self._woken_at = anyio.current_time()
        self._woken.set()

    async def run(self, follow: Follow, save: Save | None) -> None:
        """Follow everything that is under way at the gateway, and save what has finished (`save`), until cancelled.

        A task is asked about every `pace` seconds at first, ever more rarely later, and given up after a day.
        """
        await anyio.sleep(TICK)  # whoever starts a server waits for its first answer, not for this
        async with anyio.create_task_group() as work:
            while True:
                self._woken = anyio.Event()
                try:
                    followed = await follow() if self._ledger.exists() else None
                    while followed is not None and await self._round(followed, save, work):  # noqa: ASYNC110 - gateways tell nobody
                        await anyio.sleep(followed.tick)
                except SoraError as error:
                    logger.info("nothing can be followed now: %s", error.message)
                except Exception:
                    logger.exception("following failed unexpectedly")  # and the server goes on
                with anyio.move_on_after(TICK if self._wanted() else IDLE_S):
                    await self._woken.wait()

    def _wanted(self) -> set[_Id]:
        return {(listener.owner, video_id) for listener in self._listeners for video_id in listener.wanted()}

    async def _round(self, followed: Followed, save: Save | None, work: TaskGroup) -> bool:
        """Whether there is anything to come back for."""
        wanted, gives_way = self._wanted(), self._gives_way(followed)
        if gives_way and not wanted:
            return True
        open_rows = await self._ledger.under_way(followed.whose, MOST)
        open_rows += await self._ledger.without_address(followed.whose, MOST)
        await self._tell_changes(followed, open_rows, wanted)
        now = self._ledger.now()
        due = [] if gives_way else [entry for entry in open_rows if entry.is_due(now, followed.pace)]
        upstreams = await _upstreams(followed, due)
        due = [entry for entry in due if entry.account in upstreams]
        self._start(work, due, self._queries, lambda entry: self._poller.ask(upstreams[entry.account], entry))
        if save is None:
            return bool(open_rows or wanted)
        unsaved = await self._ledger.unsaved(followed.whose, MOST)
        due = [entry for entry in unsaved if entry.is_due(now, followed.pace) or _is_new(entry, now)]
        self._start(work, due, self._saves, partial(self._save, save))
        return bool(open_rows or wanted or unsaved)

    def _gives_way(self, followed: Followed) -> bool:
        is_recent = anyio.current_time() - self._woken_at < followed.tick
        self._gave_way = self._gave_way + 1 if is_recent and self._gave_way < GIVE_WAY_ROUNDS else 0
        return self._gave_way > 0

    def _start(
        self,
        work: TaskGroup,
        due: list[Entry],
        at_once: anyio.CapacityLimiter,
        job: Callable[[Entry], Awaitable[object]],
    ) -> None:
        """Begin what can be begun now; whatever was looked at longest ago comes first."""

        async def run(entry: Entry) -> None:
            try:
                async with at_once:
                    await job(entry)
            except SoraError as error:
                logger.info("following %s: %s", entry.id, error.message)
            except Exception:
                logger.exception("following %s failed unexpectedly", entry.id)
            finally:
                self._at_work.discard(entry.request_id)

        idle = [entry for entry in due if entry.request_id not in self._at_work]
        for entry in sorted(idle, key=lambda e: e.polled_at or 0)[: int(at_once.available_tokens)]:
            self._at_work.add(entry.request_id)
            work.start_soon(run, entry)

    async def _save(self, save: Save, entry: Entry) -> None:
        async with self._ledger.lease(entry.request_id, seen=entry) as is_ours:
            if is_ours:
                await save(entry)

    async def _tell_changes(self, followed: Followed, open_rows: list[Entry], wanted: set[_Id]) -> None:
        """Tell what changed since the last round: of what was open then or is now, and of what is wanted."""
        in_sight = set().union(*map(_ids, open_rows))
        others = [
            await self._ledger.find(followed.account_of(owner), video_id)
            for owner, video_id in (self._seen.keys() | wanted) - in_sight
        ]
        looks = {_key(entry): (entry, _look(entry)) for entry in (*open_rows, *others) if entry is not None}
        changed = [entry for key, (entry, look) in looks.items() if self._seen.get(key) != look]
        kept = in_sight | wanted
        self._seen = {_key(entry): look for entry, look in looks.values() if not kept.isdisjoint(_ids(entry))}
        for entry in changed:
            for listener in self._listeners:
                if listener.owner == entry.account.owner:
                    await listener.tell(entry)


async def _upstreams(followed: Followed, due: Iterable[Entry]) -> dict[Account, Upstream]:
    """The gateway as the owners of these can ask it now, by account: what was made with another key than an owner has
    now is asked about with that one alone."""
    upstreams: dict[Account, Upstream] = {}
    for owner in {entry.account.owner for entry in due}:
        try:
            upstream = await followed.upstream_of(owner)
        except SoraError as error:
            logger.info("what %s made cannot be followed now: %s", owner or "nobody", error.message)
        else:
            upstreams[upstream.account] = upstream
    return upstreams


_Look = tuple[str, int | None, bool]


def _look(entry: Entry) -> _Look:
    """What a change is told of."""
    return entry.state, entry.progress, any(generation.url for generation in entry.generations)


def _key(entry: Entry) -> _Id:
    return entry.account.owner, entry.request_id


def _ids(entry: Entry) -> set[_Id]:
    return {(entry.account.owner, each) for each in (entry.request_id, entry.task_id) if each}


def _is_new(entry: Entry, now: float) -> bool:
    """Whether nobody has tried in vain yet: what has just finished is saved at once."""
    return entry.failed_polls == 0 and entry.may_be_asked(now)
