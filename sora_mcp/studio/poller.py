"""Finding videos by their ids, and asking the gateway about them where that can tell more.

A task is asked about by one process at a time, however many wait for it: whoever wants to know claims the
row in the ledger first, and everybody else reads there what came of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress

import anyio

from sora_mcp.core.advice import AskUser, Do, GiveUp, LookAgain, SeeList, Setting, TryAgain
from sora_mcp.core.errors import FileProblem, InvalidInput, NotFound, Problem, SoraError
from sora_mcp.core.ids import is_id
from sora_mcp.core.records import DAY_S
from sora_mcp.core.schedule import HISTORY, pause_after_failure, usual
from sora_mcp.core.tasks import FINAL, UNDER_WAY, Task
from sora_mcp.ledger import Account, Entry, GivenUp, Ledger, Listener, RowGone
from sora_mcp.studio.ids import without_variant
from sora_mcp.studio.upstream import Upstream

logger = logging.getLogger(__name__)

ADDRESS_AGE = 300.0
"""Seconds after which the address of a finished video is asked for again: addresses are probably short-lived."""
FAILED_AGE = 60.0
"""Seconds after which a failed video is asked about again where somebody wants to know: a later success wins."""
KNOWN_AFTER = 900.0
"""Seconds after which a task that the gateway does not know is one that it has forgotten."""
LOST_AFTER = 600.0
"""Seconds for which a gateway that keeps its tasks in memory must not know one, however often it is asked, until that
counts as lost."""
REFRESH_MOST = 20
"""How many unfinished videos a list asks about."""
REFRESH_WITHIN = 10.0
"""Seconds that asking about several unfinished videos may take."""
REFRESH_AT_ONCE = 8


class Poller:
    """Rows of the ledger, brought up to date. All methods raise SoraError and nothing else.

    `adopts`: a task that stands in no row of the caller's may be asked about, and gets one. Where people share a server
    it may not: it is somebody else's, or nobody's, and neither is told.
    """

    def __init__(self, ledger: Ledger, *, adopts: bool = True) -> None:
        self._ledger = ledger
        self._adopts = adopts
        self._asked_about: set[str] = set()
        """Requests whose tasks this process asks about right now."""

    async def look_up(self, upstream: Upstream, video_id: str) -> Entry:
        """The row of an id, asked anew where that can tell more.

        A task that no row knows is asked for and adopted. Raises InvalidInput and what `ask` raises.
        """
        entry = await self.known(upstream, video_id)
        if entry is None:
            video_id = without_variant(video_id)
            if video_id.startswith("req_"):
                raise NotFound(f"No request {video_id} was made at this gateway.", SeeList())
            await self.check_may_ask(upstream, video_id)
            task = await upstream.gateway.query(video_id)
            return await self._ledger.adopt(upstream.account, video_id, task, upstream.dialect_name)
        if entry.state in UNDER_WAY:
            return await self.ask(upstream, entry)
        if not self._may_know_more(entry):
            return entry
        try:
            return await self.ask(upstream, entry, anyway=True)
        except SoraError:
            return entry

    async def known(self, upstream: Upstream, video_id: str) -> Entry | None:
        """The row of an id as it is in the ledger. Raises InvalidInput."""
        if not is_id(without_variant(video_id)):
            raise InvalidInput([Problem("task_id", "is not an id", "task_… or req_…")])
        entry = await self._recorded(upstream, video_id.strip())
        return entry or await self._recorded(upstream, without_variant(video_id))

    async def check_may_ask(self, upstream: Upstream, shown_id: str) -> None:
        """Raise NotFound for an id in no row of the caller's that is, or may be, somebody else's: to know it is no
        permission."""
        if not self._adopts or await self._ledger.is_of_another_owner(upstream.account, shown_id):
            raise NotFound(f"{shown_id} is not known here.", SeeList())

    async def abandonable(self, upstream: Upstream, request_id: str) -> GivenUp | None:
        """The task under way of a request that a person may give up: the gateway has forgotten it, or it is a day old.

        None where the request has no task under way. Raises NotFound where it is too early, or what a query raises.
        """
        entry = await self._ledger.find(upstream.account, request_id)
        if entry is None or entry.task_id is None or entry.state not in UNDER_WAY:
            return None
        after_a_day = GivenUp(entry.task_id, "given up, more than a day after it was made")
        is_old = self._ledger.now() - entry.created_at > DAY_S
        try:
            task = await upstream.query(entry)
        except NotFound:
            if is_old:
                return after_a_day
            if entry.account == upstream.account and not self._is_young(entry):
                return GivenUp(entry.task_id, "the gateway has forgotten it")
            raise _too_early(entry, is_own=entry.account == upstream.account) from None
        except SoraError:
            if is_old:
                return after_a_day
            raise
        now = await self._ledger.record(entry, task, None)
        if is_old and now.state in UNDER_WAY:
            return after_a_day
        raise NotFound(f"The gateway knows the task of {request_id}: there is nothing to settle.", LookAgain(entry.id))

    async def look_again(self, upstream: Upstream, entry: Entry, *, in_trouble: bool, may_have_changed: bool) -> Entry:
        """The row while somebody waits: what the ledger says, and the gateway where it is time to ask it.

        Where whoever waits here could not ask the last time (`in_trouble`), the next time comes sooner.
        """

        def is_time() -> bool:
            return in_trouble or entry.is_due_for_who_waits(self._ledger.now(), upstream.pace)

        if entry.state in UNDER_WAY and not may_have_changed and not is_time():
            return entry
        entry = await self._now(upstream.account, entry)
        if entry.state in UNDER_WAY and is_time():
            return await self.ask(upstream, entry)
        return entry

    def listen(self, entry: Entry) -> AbstractContextManager[Listener]:
        """Hear of what others change about a row, from here on."""
        return self._ledger.listen(entry.request_id)

    async def ask(self, upstream: Upstream, entry: Entry, *, anyway: bool = False) -> Entry:
        """The row brought up to date.

        Nobody is asked while somebody else asks, within the gateway's pace, or while it asked to be left alone, unless
        `anyway`. Raises NotFound, Refused, BadReply, Unreachable or RowGone.
        """
        if anyway:
            return await self._asked(upstream, entry, quiet_s=None)
        is_asked_about = entry.request_id in self._asked_about  # a claim that is lost costs as much as one that is not
        if upstream.may_be_asked() and entry.may_be_asked(self._ledger.now()) and not is_asked_about:
            self._asked_about.add(entry.request_id)
            try:
                pause_s = pause_after_failure(upstream.pace, upstream.tick, entry.failed_polls)
                async with self._ledger.lease(entry.request_id, pause_s, seen=entry) as is_ours:
                    if is_ours:
                        return await self._asked(upstream, entry, quiet_s=upstream.pace)
            finally:
                self._asked_about.discard(entry.request_id)
        return await self._now(upstream.account, entry)

    async def _now(self, account: Account, entry: Entry) -> Entry:
        """The row as it is now. Raises RowGone where it is not there any more."""
        if (now := await self._ledger.find(account, entry.request_id)) is None:
            raise RowGone(entry.request_id)
        return now

    async def _asked(self, upstream: Upstream, entry: Entry, quiet_s: float | None) -> Entry:
        with upstream.questions.asking(entry):
            return await self._query(upstream, entry, quiet_s)

    async def _query(self, upstream: Upstream, entry: Entry, quiet_s: float | None) -> Entry:
        if entry.task_id is None:
            return entry
        try:
            task = await upstream.query(entry)
        except NotFound:
            if (lost := await self._lost(upstream, entry)) is not None:
                return lost
            raise self._not_known(upstream, entry) from None
        except SoraError as error:
            if error.http_status == 404 and self._is_young(entry):  # what took the create answers queries, too
                raise self._not_known(upstream, entry) from None
            upstream.leave_alone(error.retry_after_s or 0)
            raise
        if quiet_s is not None and task.state in FINAL:
            quiet_s = 0
        return await self._ledger.record(entry, task, quiet_s)

    async def _lost(self, upstream: Upstream, entry: Entry) -> Entry | None:
        """The row of a task that the gateway kept in memory and has lost; None while it may still be known.

        A server that is starting, or one of several behind an address, does not know it for a while.
        """
        if entry.state == "lost":
            return entry
        forgets = not upstream.dialect_of(entry).capabilities.outlive_restart
        if not forgets or entry.account != upstream.account or entry.state not in UNDER_WAY:
            return None
        missed = await self._ledger.missed(entry)
        if missed.missed_since is None or self._ledger.now() - missed.missed_since < LOST_AFTER:
            return None
        reason = "the server keeps videos in memory, was perhaps restarted, and does not know this one any more"
        return await self._ledger.record(missed, Task(state="lost", failure_reason=reason))

    def _not_known(self, upstream: Upstream, entry: Entry) -> NotFound:
        """Of a task that the gateway has accepted, and says that it does not know."""
        if entry.account != upstream.account:
            return _of_another_key(entry)
        accepted = f"{entry.task_id} was accepted by the gateway, but it does not know it"
        if not self._is_young(entry):
            return NotFound(f"{accepted} any more.", GiveUp(entry.request_id))
        error = NotFound(f"{accepted} yet.", LookAgain(entry.id, after_s=60, paid=True))
        error.may_come = True
        return error

    def age(self, entry: Entry) -> float | None:
        """Seconds since a video was asked for, where it is under way."""
        return max(0.0, self._ledger.now() - entry.created_at) if entry.state in UNDER_WAY else None

    async def usual(self, upstream: Upstream) -> float | None:
        """Seconds that a video usually takes here, as the ledger's history shows it. None where that is not known."""
        if upstream.usual_s is not None:
            return upstream.usual_s
        with suppress(FileProblem):
            return usual(await self._ledger.durations(upstream.account, HISTORY))
        return None

    async def refresh_unfinished(self, upstream: Upstream) -> list[SoraError]:
        """Ask about the newest unfinished ones; whoever does not answer in time stays as it is."""
        now = self._ledger.now()
        unfinished = await self._ledger.page(upstream.account, limit=REFRESH_MOST, states=UNDER_WAY)
        due = [entry for entry in unfinished if not entry.is_damaged and entry.is_due(now, upstream.pace)]
        return await self.refresh(upstream, due)

    async def refresh(self, upstream: Upstream, entries: Sequence[Entry]) -> list[SoraError]:
        """Ask about these, a few at once and within REFRESH_WITHIN. Returns why some could not be asked about."""
        at_once = anyio.CapacityLimiter(REFRESH_AT_ONCE)
        errors: list[SoraError] = []

        async def ask(entry: Entry) -> None:
            async with at_once:
                try:
                    now = await self._now(entry.account, entry)
                    if now.polled_at == entry.polled_at:  # nobody has asked since it was read
                        await self.ask(upstream, now)
                except SoraError as error:
                    logger.info("a query failed: %s", error.message)
                    errors.append(error)

        with anyio.move_on_after(REFRESH_WITHIN):
            async with anyio.create_task_group() as asking:
                for entry in entries:
                    asking.start_soon(ask, entry)
        return errors

    def _is_young(self, entry: Entry) -> bool:
        """Whether the gateway may not know a task yet that it has accepted."""
        return 0 <= self._ledger.now() - entry.created_at < KNOWN_AFTER

    def _may_know_more(self, entry: Entry) -> bool:
        """A finished video whose address is missing, or may have expired and is not saved; or one that is said to have
        failed, and may have succeeded after all."""
        if entry.state in {"failed", "blocked", "lost"}:
            return entry.task_id is not None and self._ledger.age(entry) > FAILED_AGE
        if entry.state != "succeeded" or entry.files:
            return False
        return not any(g.url for g in entry.generations) or self._ledger.age(entry) > ADDRESS_AGE

    async def _recorded(self, upstream: Upstream, video_id: str) -> Entry | None:
        """The row of a task, a request or a generation."""
        if entry := await self._ledger.find(upstream.account, video_id):
            return entry
        of_generation = await self._ledger.find_generation(upstream.account, video_id)
        return of_generation[0] if of_generation else None


def _too_early(entry: Entry, *, is_own: bool) -> NotFound:
    """Why a task that the gateway does not know cannot be given up yet."""
    if is_own:
        words = f"{entry.request_id} was submitted only minutes ago: the gateway may not know its task yet."
        return NotFound(words, TryAgain(900))
    words = f"{entry.request_id} was made with another key: that this one is not told about it proves nothing."
    return NotFound(words, Do("Ask with the other key, or give it up a day after it was made."))


def _of_another_key(entry: Entry) -> NotFound:
    words = f"{entry.id} was made with another key, and the gateway tells this one nothing about it"
    return NotFound(
        f"{words} (last known state: {entry.state}).",
        AskUser(("set ", Setting("api_key"), " to the key it was made with, or look at the gateway")),
        Do("Do not submit it again."),
    )
