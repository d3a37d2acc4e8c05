"""Finding videos by their ids, and querying the gateway about them if that can add anything.

A task is queried by one process at a time, however many wait for it: a process leases the row in the ledger first, and
the others read the result there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress

import anyio

from sora_mcp.core.advice import AskUser, CheckAgain, Do, GiveUp, SeeList, Setting, TryAgain
from sora_mcp.core.errors import FileProblem, NotFound, SoraError
from sora_mcp.core.ids import is_id
from sora_mcp.core.records import DAY_S
from sora_mcp.core.schedule import HISTORY_SIZE, pause_after_failure, usual_duration
from sora_mcp.core.tasks import FINAL, UNDER_WAY, Task
from sora_mcp.ledger import AbandonedTask, Account, Entry, Ledger, Listener, RowMissing
from sora_mcp.studio.ids import without_variant
from sora_mcp.studio.upstream import Upstream

logger = logging.getLogger(__name__)

ADDRESS_TTL_S = 300.0
"""Seconds after which the address of a finished video is requested again: addresses are probably short-lived."""
FAILED_TTL_S = 60.0
"""Seconds after which a failed video is queried again when a caller asks for it: a later success wins."""
FORGOTTEN_AFTER_S = 900.0
"""Seconds after its creation from which a task that the gateway does not know counts as forgotten."""
LOST_AFTER_S = 600.0
"""Seconds for which a gateway that keeps its tasks in memory has to deny knowing one before it counts as lost."""
MAX_REFRESHED = 20
"""How many unfinished videos a list queries."""
REFRESH_TIMEOUT_S = 10.0
"""Seconds that querying several unfinished videos may take."""
MAX_CONCURRENT_QUERIES = 8


class Poller:
    """Rows of the ledger, brought up to date. All methods raise SoraError and nothing else.

    `adopts`: a task without a row of the caller's may be queried, and gets one. Not if people share a server: it may be
    another person's, and the answer must not tell which.
    """

    def __init__(self, ledger: Ledger, *, adopts: bool = True) -> None:
        self._ledger = ledger
        self._adopts = adopts
        self._asked_about: set[str] = set()
        """Ids of the requests whose tasks this process is querying."""

    async def find(self, upstream: Upstream, video_id: str) -> Entry:
        """Return the row of an id, queried again if that can add anything.

        A task without a row is queried and adopted. Raises what `find_recorded` and `current` raise.
        """
        return await self.current(upstream, video_id, await self.find_recorded(upstream, video_id))

    async def current(self, upstream: Upstream, video_id: str, entry: Entry | None) -> Entry:
        """Return what `find` returns, for the row that `find_recorded` has found. Raises what `ask` raises."""
        if entry is None:
            video_id = without_variant(video_id)
            if video_id.startswith("req_"):
                raise NotFound(f"No request {video_id} was made at this gateway.", SeeList())
            await self.check_may_ask(upstream, video_id)
            task = await upstream.gateway.query(video_id)
            return await self._ledger.adopt(upstream.account, video_id, task, upstream.dialect_name)
        if entry.state in UNDER_WAY:
            return await self.ask(upstream, entry)
        if not self._is_stale(entry):
            return entry
        try:
            return await self.ask(upstream, entry, force=True)
        except SoraError:
            return entry

    async def find_recorded(
        self, upstream: Upstream, text: str, argument: str = "task_id", allowed: str = "task_… or req_…"
    ) -> Entry | None:
        """Return the row of an id as the ledger has it, or None.

        Raises InvalidInput for a text without a row that is not an id: what it cannot be, an address, or a text with
        a recorded id in it, which is named but not taken for it. `argument` is named in it, with what is `allowed`.
        """
        for each in dict.fromkeys((text.strip(), without_variant(text))):
            if is_id(each) and (entry := await self._find_row(upstream, each)):
                return entry
        from sora_mcp.studio.misread_ids import ids_within, not_an_id_error  # noqa: PLC0415 - few ids are unknown

        named = [each for each in ids_within(text) if await self._find_row(upstream, each.partition("#")[0])]
        if named or "://" in text or not is_id(without_variant(text)):
            raise not_an_id_error(text, argument, allowed, named)
        return None

    async def check_may_ask(self, upstream: Upstream, video_id: str) -> None:
        """Raise NotFound for an id that is, or may be, another owner's: knowing it is no permission."""
        if not self._adopts or await self._ledger.is_of_another_owner(upstream.account, video_id):
            raise NotFound(f"{video_id} is not known here.", SeeList())

    async def find_abandonable(self, upstream: Upstream, request_id: str) -> AbandonedTask | None:
        """Return a request's task under way if a person may give it up: the gateway has forgotten it, or it is a day
        old.

        None if the request has no task under way. Raises NotFound if it is too early, or what a query raises.
        """
        entry = await self._ledger.find(upstream.account, request_id)
        if entry is None or entry.task_id is None or entry.state not in UNDER_WAY:
            return None
        expired = AbandonedTask(entry.task_id, "given up, more than a day after it was made")
        is_old = self._ledger.now() - entry.created_at > DAY_S
        try:
            task = await upstream.query(entry)
        except NotFound:
            if is_old:
                return expired
            if entry.account == upstream.account and not self._is_recent(entry):
                return AbandonedTask(entry.task_id, "the gateway has forgotten it")
            raise _too_early_error(entry, is_own=entry.account == upstream.account) from None
        except SoraError:
            if is_old:
                return expired
            raise
        current = await self._ledger.record(entry, task, None)
        if is_old and current.state in UNDER_WAY:
            return expired
        raise NotFound(f"The gateway knows the task of {request_id}: there is nothing to settle.", CheckAgain(entry.id))

    async def poll(self, upstream: Upstream, entry: Entry, *, has_failed: bool, may_have_changed: bool) -> Entry:
        """Return the row while a caller waits: from the ledger, and from the gateway if a query is due.

        After a failed query of this caller (`has_failed`), the next one is attempted earlier.
        """

        def is_due_now() -> bool:
            return has_failed or entry.is_due_for_waiter(self._ledger.now(), upstream.pace)

        if entry.state in UNDER_WAY and not may_have_changed and not is_due_now():
            return entry
        entry = await self._reread(upstream.account, entry)
        if entry.state in UNDER_WAY and is_due_now():
            return await self.ask(upstream, entry)
        return entry

    def listen(self, entry: Entry) -> AbstractContextManager[Listener]:
        """Listen for changes that other processes make to a row."""
        return self._ledger.listen(entry.request_id)

    async def ask(self, upstream: Upstream, entry: Entry, *, force: bool = False) -> Entry:
        """Return the row, brought up to date.

        Unless `force`, no query is sent while another process sends one, within the gateway's pace, or while the
        gateway has asked for a pause. Raises NotFound, Refused, BadReply, Unreachable or RowMissing.
        """
        if force:
            return await self._tracked_query(upstream, entry, quiet_s=None)
        is_asked_about = entry.request_id in self._asked_about  # a refused lease costs as much as a granted one
        if upstream.may_be_asked() and entry.may_be_polled(self._ledger.now()) and not is_asked_about:
            self._asked_about.add(entry.request_id)
            try:
                pause_s = pause_after_failure(upstream.pace, upstream.tick, entry.failed_polls)
                async with self._ledger.lease(entry.request_id, pause_s, expected=entry) as is_leased:
                    if is_leased:
                        return await self._tracked_query(upstream, entry, quiet_s=upstream.pace)
            finally:
                self._asked_about.discard(entry.request_id)
        return await self._reread(upstream.account, entry)

    async def _reread(self, account: Account, entry: Entry) -> Entry:
        """Read the row again. Raises RowMissing if it no longer exists."""
        if (current := await self._ledger.find(account, entry.request_id)) is None:
            raise RowMissing(entry.request_id)
        return current

    async def _tracked_query(self, upstream: Upstream, entry: Entry, quiet_s: float | None) -> Entry:
        with upstream.queries.tracking(entry):
            return await self._query(upstream, entry, quiet_s)

    async def _query(self, upstream: Upstream, entry: Entry, quiet_s: float | None) -> Entry:
        if entry.task_id is None:
            return entry
        try:
            task = await upstream.query(entry)
        except NotFound:
            if (lost_entry := await self._mark_if_lost(upstream, entry)) is not None:
                return lost_entry
            raise self._not_known_error(upstream, entry) from None
        except SoraError as error:
            if error.http_status == 404 and self._is_recent(entry):  # it took the create, so it answers queries
                raise self._not_known_error(upstream, entry) from None
            upstream.pause(error.retry_after_s or 0)
            raise
        if quiet_s is not None and task.state in FINAL:
            quiet_s = 0
        return await self._ledger.record(entry, task, quiet_s)

    async def _mark_if_lost(self, upstream: Upstream, entry: Entry) -> Entry | None:
        """Record a task that the gateway kept in memory as lost and return its row; None while it may still be known.

        A server that is starting, or one of several behind an address, may not know it for a while.
        """
        if entry.state == "lost":
            return entry
        is_in_memory = not upstream.dialect_of(entry).capabilities.outlive_restart
        if not is_in_memory or entry.account != upstream.account or entry.state not in UNDER_WAY:
            return None
        missed = await self._ledger.record_missing(entry)
        if missed.missed_since is None or self._ledger.now() - missed.missed_since < LOST_AFTER_S:
            return None
        reason = "the server keeps videos in memory, was perhaps restarted, and does not know this one any more"
        return await self._ledger.record(missed, Task(state="lost", failure_reason=reason))

    def _not_known_error(self, upstream: Upstream, entry: Entry) -> NotFound:
        """Return the error for a task that the gateway has accepted but says it does not know."""
        if entry.account != upstream.account:
            return _other_key_error(entry)
        accepted = f"{entry.task_id} was accepted by the gateway, but it does not know it"
        if not self._is_recent(entry):
            return NotFound(f"{accepted} any more.", GiveUp(entry.request_id))
        error = NotFound(f"{accepted} yet.", CheckAgain(entry.id, after_s=60, paid=True))
        error.may_appear = True
        return error

    def age(self, entry: Entry) -> float | None:
        """Return the seconds since a video was requested, or None if it is not under way."""
        return max(0.0, self._ledger.now() - entry.created_at) if entry.state in UNDER_WAY else None

    async def usual_duration(self, upstream: Upstream) -> float | None:
        """Return the seconds that a video usually takes here, from the ledger's history; None if unknown."""
        if upstream.usual_s is not None:
            return upstream.usual_s
        with suppress(FileProblem):
            return usual_duration(await self._ledger.durations(upstream.account, HISTORY_SIZE))
        return None

    async def refresh_unfinished(self, upstream: Upstream) -> list[SoraError]:
        """Query the newest unfinished videos; those without an answer in time stay as they are. Return the errors."""
        now = self._ledger.now()
        unfinished = await self._ledger.page(upstream.account, limit=MAX_REFRESHED, states=UNDER_WAY)
        due = [entry for entry in unfinished if not entry.is_damaged and entry.is_due(now, upstream.pace)]
        return await self.refresh(upstream, due)

    async def refresh(self, upstream: Upstream, entries: Sequence[Entry]) -> list[SoraError]:
        """Query these rows, a few concurrently and within REFRESH_TIMEOUT_S in all. Return the errors."""
        limiter = anyio.CapacityLimiter(MAX_CONCURRENT_QUERIES)
        errors: list[SoraError] = []

        async def ask(entry: Entry) -> None:
            async with limiter:
                try:
                    current = await self._reread(entry.account, entry)
                    if current.polled_at == entry.polled_at:  # not queried since it was read
                        await self.ask(upstream, current)
                except SoraError as error:
                    logger.info("a query failed: %s", error.message)
                    errors.append(error)

        with anyio.move_on_after(REFRESH_TIMEOUT_S):
            async with anyio.create_task_group() as task_group:
                for entry in entries:
                    task_group.start_soon(ask, entry)
        return errors

    def _is_recent(self, entry: Entry) -> bool:
        """Whether the task is so new that a gateway that accepted it may not know it yet."""
        return 0 <= self._ledger.now() - entry.created_at < FORGOTTEN_AFTER_S

    def _is_stale(self, entry: Entry) -> bool:
        """Whether a query may add something: the address of a finished video is missing, or may have expired and the
        video is not saved; or a video is said to have failed, and may have succeeded after all."""
        if entry.state in {"failed", "blocked", "lost"}:
            return entry.task_id is not None and self._ledger.age(entry) > FAILED_TTL_S
        if entry.state != "succeeded" or entry.files:
            return False
        return not any(g.url for g in entry.generations) or self._ledger.age(entry) > ADDRESS_TTL_S

    async def _find_row(self, upstream: Upstream, video_id: str) -> Entry | None:
        """Return the row of a task, a request or a generation, or None."""
        if entry := await self._ledger.find(upstream.account, video_id):
            return entry
        source = await self._ledger.find_generation(upstream.account, video_id)
        return source[0] if source else None


def _too_early_error(entry: Entry, *, is_own: bool) -> NotFound:
    """Return the error for a task unknown to the gateway that cannot be given up yet."""
    if is_own:
        message = f"{entry.request_id} was submitted only minutes ago: the gateway may not know its task yet."
        return NotFound(message, TryAgain(900))
    message = f"{entry.request_id} was made with another key: that it is not shown to this key proves nothing."
    return NotFound(message, Do("Ask with the other key, or give it up a day after it was made."))


def _other_key_error(entry: Entry) -> NotFound:
    message = f"{entry.id} was made with another key, and the gateway does not show it to this key"
    return NotFound(
        f"{message} (last known state: {entry.state}).",
        AskUser(("set ", Setting("api_key"), " to the key it was made with, or look at the gateway")),
        Do("Do not submit it again."),
    )
