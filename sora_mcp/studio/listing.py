"""Lists of videos: after querying the gateway, after a wait for what is under way, or as the ledger has them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio

from sora_mcp.config.endpoint import label_of
from sora_mcp.core.accounts import Account
from sora_mcp.core.advice import Advice, MayBeOutdated, WaitForAll
from sora_mcp.core.errors import InvalidInput, NotFound, Problem, SoraError
from sora_mcp.core.plans import prompt_matcher
from sora_mcp.core.records import DAY_S, Totals
from sora_mcp.core.results import Filters, VideoList
from sora_mcp.core.states import STARTED
from sora_mcp.core.tasks import State
from sora_mcp.ledger import Entry, Ledger, RowMissing
from sora_mcp.studio import report
from sora_mcp.studio.connector import NOT_CONFIGURED, Connector
from sora_mcp.studio.costs import cost_fields
from sora_mcp.studio.poller import MAX_REFRESHED, Poller
from sora_mcp.studio.upstream import Upstream
from sora_mcp.studio.waiter import LEDGER_TIMEOUT_S, ledger_timeout_error

MAX_WAITED_FOR = 200
"""Videos that one call waits for: the newest."""

ListProgress = Callable[[int, int], Awaitable[None]]
"""Receive, while waiting, how many videos have finished, and how many are waited for in all."""


class Lists:
    """The caller's videos, newest first. All methods raise SoraError and nothing else."""

    def __init__(self, ledger: Ledger, connector: Connector, poller: Poller) -> None:
        self._ledger = ledger
        self._connector = connector
        self._poller = poller

    async def page(
        self,
        filters: Filters,
        *,
        limit: int,
        cursor: str | None = None,
        wait_seconds: float = 0,
        on_progress: ListProgress | None = None,
    ) -> VideoList:
        """Return one page, after querying the newest unfinished videos; see `Studio.list_videos`."""
        upstream = await self._connector.connect()
        await self._check_cursor(upstream.account, cursor)
        wait = _Wait(self._ledger, self._poller, upstream, filters.query)
        await wait.run(wait_seconds, on_progress)
        with anyio.CancelScope(deadline=anyio.current_time() + LEDGER_TIMEOUT_S if wait_seconds > 0 else math.inf):
            return await self._list(upstream, wait, filters, limit, cursor)
        raise ledger_timeout_error()

    async def _list(
        self, upstream: Upstream, wait: _Wait, filters: Filters, limit: int, cursor: str | None
    ) -> VideoList:
        await wait.finish()
        entries, next_cursor = await self._entries(upstream.account, filters, limit, cursor)
        totals = await self._ledger.totals(upstream.account)
        max_rows = MAX_REFRESHED if filters.query is None else MAX_WAITED_FOR
        under_way = [each for each in await self._ledger.under_way(upstream.account, max_rows) if wait.is_wanted(each)]
        return VideoList(
            gateway=upstream.label,
            counts={state: count for state, count in totals.counts.items()},  # noqa: C416
            **self._sums(totals),
            unpriced=totals.unpriced or None,
            elsewhere=None if entries else _other_gateways(totals.other_accounts, upstream.account) or None,
            usual_seconds=await self._usual_seconds(upstream) if under_way else None,
            videos=[report.listed(entry, self._poller.age(entry)) for entry in entries if not entry.is_damaged],
            damaged=(damaged := _damaged(entries)),
            next_cursor=next_cursor,
            filters=filters.model_copy(update={"is_continued": cursor is not None}),
            advice=(
                *_advice(wait.last_error, [upstream.queries.error_for(entry) for entry in under_way], filters, limit),
                *report.damaged_advice(damaged),
            ),
            **wait.outcome,
        )

    def _sums(self, totals: Totals) -> dict[str, Any]:
        fields = cost_fields(totals.cost, totals.uncertain, self._connector.dialect.capabilities.unit)
        return fields | {"uncertain_cost": fields.pop("uncertain") or None}

    async def recent(self, *, limit: int, states: tuple[State, ...] = ()) -> VideoList:
        """Return the newest videos as the ledger has them; see `Studio.recent`."""
        if not self._ledger.exists() or self._connector.label == NOT_CONFIGURED:
            return VideoList(gateway=self._connector.label, videos=[])
        entries = await self._ledger.page((await self._connector.connect()).account, limit=limit, states=states)
        videos = [report.listed(entry) for entry in entries if not entry.is_damaged]
        damaged = _damaged(entries)
        return VideoList(
            gateway=self._connector.label, videos=videos, damaged=damaged, advice=report.damaged_advice(damaged)
        )

    async def _check_cursor(self, account: Account, cursor: str | None) -> None:
        """Raise InvalidInput before any wait if no list of this account returned the cursor."""
        if cursor is None:
            return
        try:
            await self._ledger.page(account, limit=1, before=cursor)
        except NotFound:
            raise InvalidInput([Problem("cursor", "is not a cursor", _CURSORS)]) from None

    async def _entries(
        self, account: Account, filters: Filters, limit: int, cursor: str | None
    ) -> tuple[list[Entry], str | None]:
        """Return one page, and the cursor of the next one or None: the id of the last request before it.

        Row numbers would show each owner how many videos the others make.
        """
        if filters.query is not None:
            return await self._ledger.search(account, filters.query, limit=limit, before=cursor, states=filters.states)
        entries = await self._ledger.page(account, limit=limit + 1, before=cursor, states=filters.states)
        return entries[:limit], entries[limit - 1].request_id if len(entries) > limit else None

    async def _usual_seconds(self, upstream: Upstream) -> int | None:
        seconds = await self._poller.usual_duration(upstream)
        return None if seconds is None else max(1, round(seconds))


class _Wait:
    """A wait for everything that was under way when it started; what starts meanwhile is not waited for."""

    def __init__(self, ledger: Ledger, poller: Poller, upstream: Upstream, query: str | None) -> None:
        self._ledger = ledger
        self._poller = poller
        self._upstream = upstream
        self._matches = prompt_matcher(query) if query is not None else lambda _: True
        self._wanted: dict[str, Entry] | None = None
        self.last_error: SoraError | None = None
        """The error of the last query, if it failed."""
        self.outcome: dict[str, Any] = {}
        """How many videos were waited for, and how many of them have finished."""

    async def run(self, seconds: float, on_progress: ListProgress | None) -> None:
        """Query the newest; with `seconds`, until all have finished or these are over."""
        if seconds <= 0:
            self._record_errors(await self._poller.refresh_unfinished(self._upstream), 0)
            return
        wanted = self._wanted = {each.request_id: each for each in await self._under_way() if self.is_wanted(each)}
        remaining = len(wanted)
        with anyio.move_on_after(seconds):
            while remaining:
                entries = [entry for entry in await self._under_way() if entry.request_id in wanted]
                due = [entry for entry in entries if self._is_due(entry)]
                is_final = self._record_errors(await self._poller.refresh(self._upstream, due), len(due))
                remaining = len({entry.request_id for entry in await self._under_way()} & wanted.keys())
                if on_progress is not None:
                    await on_progress(len(wanted) - remaining, len(wanted))
                if remaining and is_final and len(due) == len(entries):
                    break
                if remaining:
                    await anyio.sleep(self._upstream.tick)

    async def finish(self) -> None:
        """Read once more what was waited for, and set the outcome."""
        if self._wanted is None:
            return
        remaining = {entry.request_id for entry in await self._under_way()} & self._wanted.keys()
        if not remaining:  # another process got the answer
            self.last_error = None
        for request_id in self._wanted.keys() - remaining:
            entry = self._wanted[request_id]
            if await self._ledger.find(entry.account, request_id) is None:
                remaining.add(request_id)
                self.last_error = RowMissing(request_id)
        self.outcome = {"waited_for": len(self._wanted), "finished": len(self._wanted) - len(remaining)}

    def is_wanted(self, entry: Entry) -> bool:
        """Whether the filter matches."""
        return self._matches(entry.body)

    async def _under_way(self) -> list[Entry]:
        """Return what the gateway has not finished, or is being sent; nothing is waited for longer than a day."""
        entries = await self._ledger.page(self._upstream.account, limit=MAX_WAITED_FOR, states=STARTED)
        since = self._ledger.now() - DAY_S
        return [entry for entry in entries if entry.created_at > since]

    def _is_due(self, entry: Entry) -> bool:
        """Whether to query it now."""
        return entry.task_id is not None and entry.is_due_for_waiter(self._ledger.now(), self._upstream.pace)

    def _record_errors(self, errors: list[SoraError], queried: int) -> bool:
        """Remember the last error; return whether every query failed for good."""
        if queried or errors:
            self.last_error = errors[-1] if errors else None
        return bool(errors) and len(errors) == queried and not any(error.can_retry for error in errors)


def _damaged(entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(entry.request_id for entry in entries if entry.is_damaged)


def _advice(
    error: SoraError | None, errors: Sequence[SoraError | None], filters: Filters, limit: int
) -> tuple[Advice, ...]:
    """Return the advice. `error`: of this call; `errors`: of each video under way."""
    known_errors = [each for each in errors if each is not None]
    error = error or next(iter(known_errors), None)
    before = () if error is None else (MayBeOutdated(error.parts),)
    if any(each is None or each.can_retry for each in errors):
        return (*before, WaitForAll(filters.query, limit))
    return (*before, *(known_errors[0].advice if known_errors else ()))


def _other_gateways(others: Mapping[Account, int], account: Account) -> dict[str, int]:
    """Return how many videos other gateways have, by their names."""
    counts: dict[str, int] = {}
    for other, count in others.items():
        name = label_of(other.address) + (" (another key)" if other.address == account.address else "")
        counts[name] = counts.get(name, 0) + count
    return counts


_CURSORS = "the one that an earlier page gave; without one, the list begins with the newest"
