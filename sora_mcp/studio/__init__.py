"""What can be done with videos, without MCP: submit, look, wait, list, view, download.

The rules "never pay twice" and "never forget" live here. All wiring is in `Studio.open`; nothing
below knows who stands beside it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from sora_mcp import dialect
from sora_mcp.errors import (
    SEE_LOG,
    BadReply,
    InternalError,
    InvalidInput,
    NotFound,
    OverCap,
    Problem,
    SoraError,
    Unreachable,
)
from sora_mcp.ledger import Entry, Intent, Ledger, Rules
from sora_mcp.models import VideoRequest
from sora_mcp.results import Download, Look, Submission, Video, VideoList
from sora_mcp.settings import Settings
from sora_mcp.studio import report
from sora_mcp.studio.desk import Desk
from sora_mcp.studio.sources import Found, Resolved, resolve, take_local_images, variant_of
from sora_mcp.studio.submitter import LOOK_EVERY, Submitter
from sora_mcp.tasks import FINAL, UNDER_WAY, State

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway
    from sora_mcp.studio.files import Files

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 50.0
"""Seconds after which a paid call answers that it is still sending (hosts give up after 60); the POST goes on."""
RESOLVE_WITHIN = 15.0
"""Seconds for everything that comes before the POST."""
ADDRESS_AGE = 300.0
"""Seconds after which the address of a finished video is asked for again: addresses are probably short-lived."""
REFRESH_MOST = 20
"""How many unfinished videos a list asks about."""
REFRESH_WITHIN = 10.0
"""Seconds that a list may take to ask about unfinished videos."""
WaitProgress = Callable[[Video], Awaitable[None]]
"""Told the video each time it was looked at while waiting."""


class Studio:
    """Everything that can be done; made by `Studio.open`. All methods raise SoraError and nothing else."""

    def __init__(self, settings: Settings, ledger: Ledger, background: TaskGroup) -> None:
        self.settings = settings
        self._ledger = ledger
        self._submitter = Submitter(ledger, background)
        self._opened: Desk | None = None
        self._opening = anyio.Lock()
        self._saving: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Self]:
        """A studio; on leaving, POSTs under way are awaited (bounded by their time-out) and recorded."""
        ledger = Ledger(settings.home / "ledger.sqlite3")
        studio: Self | None = None
        try:
            async with anyio.create_task_group() as background:
                studio = cls(settings, ledger, background)
                yield studio
        finally:
            if studio is not None and studio._opened is not None:
                with anyio.CancelScope(shield=True):
                    await studio._opened.aclose()
            ledger.close()

    # --- paid -------------------------------------------------------------------------------------

    async def submit(self, draft: VideoRequest, *, dry_run: bool = False, allow_duplicate: bool = False) -> Submission:
        """Submit the request once and return its task id; with `dry_run` send nothing and return the body.

        The same request within the duplicate window is not sent again (its first task is returned), unless
        `allow_duplicate`. In `draft` a source may be a `task_…` id and an image a local path. Raises InvalidInput,
        NotConfigured, NotFound, NotReady, OverCap or FileProblem (nothing was submitted), Unreachable, Refused
        or OutcomeUnknown.
        """
        answer_by = anyio.current_time() + ANSWER_WITHIN
        try:
            given = take_local_images(draft, self.settings.image_dirs)
            given.request.check(self.settings.limits)
            with anyio.fail_after(RESOLVE_WITHIN):
                ready = await resolve(given, self._find_video, self._find_generation)
                ready.request.check(self.settings.limits)
                if dry_run:
                    return self._dry_run(ready)
                self._check_cost(ready.request)
                desk = await self._desk()
                body = dialect.body(await _upload_images(desk.gateway, ready), self.settings.sdedit_source)
                await (
                    anyio.lowlevel.checkpoint_if_cancelled()
                )  # a wait for the ledger cannot be cut short, but ends here
        except TimeoutError:
            raise _not_submitted(
                BadReply("The gateway took too long over what the video is made from.", "Try again later.")
            ) from None
        except SoraError as error:
            raise _not_submitted(error) from None
        except Exception:
            logger.exception("a request failed before anything was sent")
            message = "Something failed in an unforeseen way before anything was sent."
            raise _not_submitted(InternalError(message, SEE_LOG)) from None
        request = ready.request
        intent = Intent(desk.name, request.operation, body, ready.fingerprint, ready.sources, request.cost())
        guard_s = 0 if allow_duplicate else self.settings.duplicate_window * 60
        rules = Rules(guard_s, self.settings.max_cost_per_day, self.settings.max_running)
        entry, is_new = await self._submitter.submit(desk.gateway, intent, rules, answer_by=answer_by)
        return report.submission(request, desk.label, "accepted", entry, is_new=is_new)

    def _check_cost(self, request: VideoRequest) -> None:
        cap, cost = self.settings.max_cost_per_call, request.cost()
        if cap is not None and (cost is None or cost > cap):
            wanted = "an unknown relative cost" if cost is None else f"a relative cost of {cost:g}"
            raise OverCap("SORA_MAX_COST_PER_CALL", cap, f"This call has {wanted}")

    def _dry_run(self, ready: Resolved) -> Submission:
        told = report.submission(ready.request, self.label, "not_submitted")
        body = dialect.body(ready.request, self.settings.sdedit_source)
        return told.model_copy(update={"body": body, "sources": ready.sources})

    # --- free -------------------------------------------------------------------------------------

    async def get(self, video_id: str, *, wait_seconds: float = 0, on_progress: WaitProgress | None = None) -> Video:
        """The video as it is now, or as it is when it has finished or `wait_seconds` (0..50) are over.

        `video_id` is a `task_…` or our `req_…` id; a task made elsewhere with the same key is adopted.
        Raises NotFound, Refused, BadReply, Unreachable, NotConfigured.
        """
        desk = await self._desk()
        deadline = anyio.current_time() + wait_seconds
        entry, gateway_state = await self._look_up(desk, video_id)
        told = report.video(entry, desk.label, gateway_state)
        while entry.state not in FINAL and anyio.current_time() < deadline:
            if on_progress is not None:
                await on_progress(told)
            if entry.task_id is None and entry.state != "sending":
                break
            with anyio.CancelScope(deadline=deadline):
                await anyio.sleep(desk.pace if entry.task_id else LOOK_EVERY)
                try:
                    entry, gateway_state = await self._look_up(desk, entry.id)
                except (BadReply, Unreachable) as error:
                    logger.info("a query while waiting failed: %s", error.message)
            told = report.video(entry, desk.label, gateway_state)
        return told

    async def list_videos(
        self, *, states: tuple[State, ...] = (), limit: int = 20, cursor: str | None = None
    ) -> VideoList:
        """The caller's videos at this gateway, newest first, after the newest unfinished ones were asked about."""
        desk = await self._desk()
        before = _read_cursor(cursor)
        await self._refresh_unfinished(desk)
        entries = await self._ledger.page(desk.name, limit=limit + 1, before=before, states=states)
        page, more = entries[:limit], len(entries) > limit
        return VideoList(
            gateway=desk.label,
            videos=[report.listed(entry) for entry in page],
            next_cursor=str(page[-1].number) if more else None,
        )

    async def view(self, video_id: str, *, variant: int = 1, frames: int = 6) -> Look:
        """A contact sheet (PNG) of one variant; `task_…#2` names one too. Raises NotReady and what `get` raises."""
        desk = await self._desk()
        entry, named = await self._finished(desk, video_id)
        return await self._files(desk).look(entry, named or variant, frames, desk.label)

    async def download(
        self, video_id: str, *, variant: int = 1, on_bytes: Callable[[int, int | None], Awaitable[None]] | None = None
    ) -> Download:
        """Save one variant in the output folder, once. Raises NotReady, FileProblem and what `get` raises."""
        desk = await self._desk()
        entry, named = await self._finished(desk, video_id)
        async with self._saving[entry.request_id]:
            entry = await self._ledger.find(desk.name, entry.request_id) or entry
            return await self._files(desk).save(entry, named or variant, desk.label, on_bytes)

    async def settle(self, request_id: str, task_id: str | None) -> Video:
        """A person looked at the gateway's own log: an *unknown* request became `task_id`, or (None) nothing.

        The task is asked for at the gateway first. Raises NotFound where there is no such request, or no such task.
        """
        desk = await self._desk()
        if task_id is not None:
            if not dialect.is_id(task_id):
                raise InvalidInput([Problem("task", "is not an id", "task_…")])
            await desk.gateway.query(task_id)
        entry = await self._ledger.settle(desk.name, request_id, task_id)
        if entry is None:
            raise NotFound(
                f"No request {request_id} with an unknown outcome stands here, or the task belongs to another request.",
                "See list_videos.",
            )
        return report.video(entry, desk.label)

    @property
    def label(self) -> str:
        """The gateway's name for people: its host, `sandbox`, or that none is configured."""
        try:
            endpoint = self.settings.endpoint()
        except SoraError:
            return report.NOT_CONFIGURED
        return "sandbox" if endpoint.sandbox else endpoint.base_url.partition("://")[2]

    # --- looking up -------------------------------------------------------------------------------

    async def _look_up(self, desk: Desk, video_id: str) -> tuple[Entry, str | None]:
        """The row, asked anew where that can tell more, and the gateway's own word for its state."""
        video_id = video_id.strip().partition("#")[0]
        if not dialect.is_id(video_id):
            raise InvalidInput([Problem("task_id", "is not an id", "task_… or req_…")])
        entry = await self._ledger.find(desk.name, video_id) or await self._of_generation(desk, video_id)
        if entry is None:
            if video_id.startswith("req_"):
                raise NotFound(f"No request {video_id} was made at this gateway.", "Look at list_videos.")
            task = await desk.gateway.query(video_id)
            return await self._ledger.adopt(desk.name, video_id, task), task.gateway_state
        if entry.task_id is None or (entry.state in FINAL and not self._may_know_more(entry)):
            return entry, None
        try:
            return await self._ask(desk, entry)
        except SoraError:
            if entry.state in FINAL:
                return entry, None
            raise

    async def _ask(self, desk: Desk, entry: Entry) -> tuple[Entry, str]:
        """Ask the gateway about a task that has a row."""
        task_id = entry.task_id or ""
        try:
            task = await desk.gateway.query(task_id)
        except NotFound:
            raise NotFound(
                f"{task_id} was accepted by the gateway, but it does not know it any more.",
                "Tell the user; do not submit it again blindly.",
            ) from None
        return await self._ledger.record(entry.request_id, task), task.gateway_state

    def _may_know_more(self, entry: Entry) -> bool:
        """A finished video whose address is missing, or may have expired and is not saved."""
        if entry.state != "succeeded" or entry.files:
            return False
        return not any(g.url for g in entry.generations) or self._ledger.age(entry) > ADDRESS_AGE

    async def _of_generation(self, desk: Desk, video_id: str) -> Entry | None:
        found = await self._ledger.find_generation(desk.name, video_id) if video_id.startswith("gen_") else None
        return found[0] if found else None

    async def _finished(self, desk: Desk, video_id: str) -> tuple[Entry, int | None]:
        """The row, and the variant that `task_…#2` names."""
        entry, _ = await self._look_up(desk, video_id)
        return entry, variant_of(video_id, "task_id")

    async def _find_video(self, video_id: str) -> Entry:
        return (await self._look_up(await self._desk(), video_id))[0]

    async def _find_generation(self, generation_id: str) -> Found | None:
        desk = await self._desk()
        return await self._ledger.find_generation(desk.name, generation_id)

    async def _refresh_unfinished(self, desk: Desk) -> None:
        """Ask about the newest unfinished ones, eight at once; whoever does not answer in time stays as it is."""
        at_once = anyio.CapacityLimiter(8)

        async def ask(entry: Entry) -> None:
            async with at_once:
                try:
                    await self._ask(desk, entry)
                except SoraError as error:
                    logger.info("a query for the list failed: %s", error.message)

        unfinished = await self._ledger.page(desk.name, limit=REFRESH_MOST, states=UNDER_WAY)
        with anyio.move_on_after(REFRESH_WITHIN):
            async with anyio.create_task_group() as asking:
                for entry in unfinished:
                    if self._ledger.age(entry) >= desk.pace:
                        asking.start_soon(ask, entry)

    # --- wiring -----------------------------------------------------------------------------------

    async def _desk(self) -> Desk:
        async with self._opening:
            if self._opened is None:
                self._opened = await self._open_desk()
            return self._opened

    async def _open_desk(self) -> Desk:
        endpoint = self.settings.endpoint()
        name = await self._ledger.gateway_name(endpoint.base_url, endpoint.api_key.get_secret_value())
        return Desk(self.settings, endpoint, name, self.label)

    def _files(self, desk: Desk) -> Files:
        from sora_mcp.studio.files import Files  # noqa: PLC0415 - only downloads need it

        async def refresh(entry: Entry) -> Entry:
            return (await self._ask(desk, entry))[0]

        return Files(self.settings, desk.gateway, self._ledger, refresh)


def _not_submitted(error: SoraError) -> SoraError:
    error.outcome = "not_submitted"
    return error


async def _upload_images(gateway: Gateway, ready: Resolved) -> VideoRequest:
    addresses = {i: await gateway.upload(image.name, image.content) for i, image in ready.images.items()}
    return ready.with_addresses(addresses)


def _read_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise InvalidInput([Problem("cursor", "is not a cursor", "next_cursor of an earlier answer")])
    return int(cursor)
