"""What can be done with videos, without MCP: submit, look, wait, list, view, download.

The rules "never pay twice" and "never forget" live here. All wiring is in `Studio.open`; nothing
below knows who stands beside it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import (
    SEE_LOG,
    BadReply,
    InternalError,
    InvalidInput,
    NotFound,
    Problem,
    SoraError,
    TooManyRunning,
)
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.results import Download, Look, Submission, Video, VideoList
from sora_mcp.core.tasks import UNDER_WAY, State
from sora_mcp.dialects import sora as dialect
from sora_mcp.ledger import Entry, Intent, Ledger, SpendingPolicy, open_ledger
from sora_mcp.media.viewer import Viewer
from sora_mcp.studio import preview, report
from sora_mcp.studio.desk import Desk
from sora_mcp.studio.finder import REFRESH_MOST, Finder
from sora_mcp.studio.ids import variant_of
from sora_mcp.studio.sources import Found, Resolved, resolve, take_local_images
from sora_mcp.studio.submitter import Submitter
from sora_mcp.studio.waiter import LEDGER_WITHIN, Waiter, WaitProgress
from sora_mcp.studio.watcher import Told, Wanted, Watcher

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway
    from sora_mcp.studio.files import Files

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 50.0
"""Seconds after which a paid call answers that it is still sending (hosts give up after 60); the POST goes on."""
RESOLVE_WITHIN = 15.0
"""Seconds for everything that comes before the POST."""
Confirm = Callable[[str, str], Awaitable[None]]
"""Asks the user a question about the request of a fingerprint. Raises Declined unless they agree."""


class Studio:
    """Everything that can be done; made by `Studio.open`. All methods raise SoraError and nothing else."""

    def __init__(self, settings: Settings, ledger: Ledger, background: TaskGroup) -> None:
        self.settings = settings
        self._ledger = ledger
        self._submitter = Submitter(ledger, background)
        self._finder = Finder(ledger)
        self._waiter = Waiter(self._finder, settings.query_timeout + LEDGER_WITHIN)
        self._watcher = Watcher(ledger, self._finder)
        self._viewer = Viewer()
        self._opened: Desk | None = None
        self._opening = anyio.Lock()
        self._saving: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, *, watch: bool = False) -> AsyncIterator[Self]:
        """A studio; on leaving, POSTs under way are awaited (bounded by their time-out) and recorded.

        With `watch` it follows everything that is under way in the background, for as long as it is open.
        """
        ledger = open_ledger(settings.ledger)
        studio: Self | None = None
        try:
            async with anyio.create_task_group() as background:
                studio = cls(settings, ledger, background)
                watching = anyio.CancelScope()
                if watch:
                    background.start_soon(studio._watch, watching)
                try:
                    yield studio
                finally:
                    watching.cancel()
                    studio._submitter.left.set()
        finally:
            if studio is not None and studio._opened is not None:
                with anyio.CancelScope(shield=True):
                    await studio._opened.aclose()
            ledger.close()

    async def _watch(self, scope: anyio.CancelScope) -> None:
        save = self._save_all if self.settings.save_finished else None
        with scope:
            await self._watcher.run(self._desk, save)

    # --- paid -------------------------------------------------------------------------------------

    async def submit(
        self,
        draft: VideoRequest,
        *,
        dry_run: bool = False,
        allow_duplicate: bool = False,
        confirm: Confirm | None = None,
    ) -> Submission:
        """Submit the request once and return its task id; with `dry_run` send nothing and return the body.

        The same request within the duplicate window is not sent again (its first task is returned), unless
        `allow_duplicate`. In `draft` a source may be a `task_…` id and an image a local path. What costs more than
        SORA_ASK_ABOVE_COST is asked about first (`confirm`). Raises InvalidInput, NotConfigured, NotFound, NotReady,
        OverCap, Declined or FileProblem (nothing was submitted), Unreachable, Refused or OutcomeUnknown.
        """
        answer_by = anyio.current_time() + ANSWER_WITHIN
        policy = self._policy(allow_duplicate=allow_duplicate)
        with _nothing_sent():
            ready = await self._resolved(draft)
            if dry_run:
                return await self._dry_run(ready, policy, confirm)
            self._check_call(ready.request, policy)
            desk = await self._desk()
            intent = self._intent(desk, ready)
            same = await self._same(desk, intent, policy)
            notes = [*preview.of_sources(ready), *await self._refused_before(intent)]
            if same is None:  # a duplicate costs nothing: nobody is asked, nothing is uploaded
                desk.gateway.prepare()
                answer_by += await self._ask_user(ready, policy, confirm)
                intent = replace(intent, body=await self._body(desk, ready))
                # A wait for the ledger cannot be cut short; a call that was given up meanwhile ends here.
                await anyio.lowlevel.checkpoint_if_cancelled()
        if same is not None:
            entry, is_new = await self._submitter.join(same, answer_by=answer_by), False
        else:
            entry, is_new = await self._submitter.submit(desk.gateway, intent, policy, answer_by=answer_by)
        self._watcher.wake()
        submission = report.submission(ready.request, desk.label, "accepted", entry, is_new=is_new)
        return submission.model_copy(update={"notes": notes if is_new else []})

    async def _resolved(self, draft: VideoRequest) -> Resolved:
        """The request with its sources found, checked against the tables."""
        given = take_local_images(draft, self.settings.image_dirs, self._ledger.owns)
        given.request.check(self.settings.limits)
        with anyio.fail_after(RESOLVE_WITHIN):
            ready = await resolve(given, self._find_video, self._find_generation, self._is_recorded)
        ready.request.check(self.settings.limits)
        return ready

    async def _same(self, desk: Desk, intent: Intent, policy: SpendingPolicy) -> Entry | None:
        """The request of which this one is a duplicate, after the gateway was asked about what stands in the way."""
        try:
            same = await self._ledger.duplicate_of(intent, policy)
        except TooManyRunning:
            unfinished = await self._ledger.page(desk.account, limit=REFRESH_MOST, states=UNDER_WAY)
            await self._finder.refresh(desk, unfinished)
            return await self._ledger.duplicate_of(intent, policy)
        if same is None or same.state not in UNDER_WAY:
            return same
        await self._finder.refresh(desk, [same])
        return await self._ledger.duplicate_of(intent, policy)

    def _intent(self, desk: Desk, ready: Resolved) -> Intent:
        """What is to be sent, but for its images, which are not uploaded yet."""
        request = ready.request
        return Intent(
            desk.account,
            request.operation,
            {},
            ready.fingerprint,
            ready.sources,
            request.cost(),
            other_fingerprint=ready.fingerprint_as_given,
        )

    async def _body(self, desk: Desk, ready: Resolved) -> dict[str, Any]:
        """The body to send, once its images are uploaded."""
        with anyio.fail_after(RESOLVE_WITHIN):
            return dialect.body(await _upload_images(desk.gateway, ready), self.settings.sdedit_source)

    def _policy(self, *, allow_duplicate: bool) -> SpendingPolicy:
        """What the settings say about money."""
        settings = self.settings
        return SpendingPolicy(
            duplicate_window_s=0 if allow_duplicate else settings.duplicate_window * 60,
            per_day=settings.max_cost_per_day,
            running=settings.max_running,
            per_call=settings.max_cost_per_call,
            ask_above=settings.ask_above_cost,
        )

    def _check_call(self, request: VideoRequest, policy: SpendingPolicy) -> None:
        self.settings.check_guards_spelling()
        policy.check_call(request.cost())

    async def _ask_user(self, ready: Resolved, policy: SpendingPolicy, confirm: Confirm | None) -> float:
        """Ask the user about what costs more than the settings let pass; the seconds that took. Raises Declined."""
        if confirm is None or not policy.asks_about(ready.request.cost()):
            return 0
        began = anyio.current_time()
        await confirm(report.question(ready.request, self.label), ready.fingerprint)
        return anyio.current_time() - began

    async def _dry_run(self, ready: Resolved, policy: SpendingPolicy, confirm: Confirm | None) -> Submission:
        submission = report.submission(ready.request, self.label, "not_submitted")
        body = dialect.body(ready.with_addresses(ready.paths), self.settings.sdedit_source)
        same, notes = None, list(preview.of_sources(ready))
        if self.label != report.NOT_CONFIGURED:
            same, met = await self._would_meet(ready, policy, confirm)
            notes += met
        update = {"body": body, "sources": ready.sources, "notes": notes, "duplicate_of": same.id if same else None}
        return submission.model_copy(update=update)

    async def _would_meet(
        self, ready: Resolved, policy: SpendingPolicy, confirm: Confirm | None
    ) -> tuple[Entry | None, list[str]]:
        """The request that a real call would be a duplicate of, and everything else that it would meet, in words."""
        notes: list[str] = []
        try:
            self._check_call(ready.request, policy)
            desk = await self._desk()
            intent = self._intent(desk, ready)
            same = await self._same(desk, intent, policy) if self._ledger.exists() else None
            notes += await self._refused_before(intent)
        except SoraError as error:
            return None, [*notes, preview.refusal(error)]
        if same is not None:
            return same, [preview.duplicate(same)]
        if confirm is not None and policy.asks_about(ready.request.cost()):
            notes.append(preview.question(report.question(ready.request, self.label)))
        return None, notes

    async def _refused_before(self, intent: Intent) -> list[str]:
        """That the same request was rejected, failed or blocked before, in words."""
        before = await self._ledger.refused_before(intent) if self._ledger.exists() else None
        return [] if before is None else [preview.refused_before(before, self._ledger.now())]

    # --- free -------------------------------------------------------------------------------------

    async def get(self, video_id: str, *, wait_seconds: float = 0, on_progress: WaitProgress | None = None) -> Video:
        """The video as it is now, or as it is when it has finished or `wait_seconds` (0..50) are over.

        `video_id` is a `task_…` or our `req_…` id; a task made elsewhere with the same key is adopted. While there is
        time, trouble that may pass is waited out; what the ledger knows is then told with the last of it.
        Raises NotFound, Refused, BadReply, Unreachable, NotConfigured.
        """
        return await self._waiter.wait(await self._desk(), video_id, wait_seconds, on_progress)

    async def list_videos(
        self, *, states: tuple[State, ...] = (), limit: int = 20, cursor: str | None = None
    ) -> VideoList:
        """The caller's videos at this gateway, newest first, after the newest unfinished ones were asked about."""
        desk = await self._desk()
        before = _read_cursor(cursor)
        await self._finder.refresh_unfinished(desk)
        entries = await self._ledger.page(desk.account, limit=limit + 1, before=before, states=states)
        page, more = entries[:limit], len(entries) > limit
        return VideoList(
            gateway=desk.label,
            videos=[report.listed(entry) for entry in page],
            next_cursor=str(page[-1].number) if more else None,
        )

    async def view(self, video_id: str, *, variant: int = 1, frames: int = 6) -> Look:
        """A contact sheet (PNG) of one variant; `task_…#2` names one too. Raises NotReady and what `get` raises."""
        desk = await self._desk()
        files = self._files(desk)
        entry = await self._waiter.look_up(desk, video_id)
        named = variant_of(video_id, "task_id", entry)
        return await files.look(entry, named or variant, frames, desk.label, self._viewer)

    def close_viewer(self) -> None:
        """End every `view` that is under way: the server is to end."""
        self._viewer.close()

    async def download(
        self, video_id: str, *, variant: int = 1, on_bytes: Callable[[int, int | None], Awaitable[None]] | None = None
    ) -> Download:
        """Save one variant in the output folder, once. Raises NotReady, FileProblem and what `get` raises."""
        desk = await self._desk()
        files = self._files(desk)
        entry = await self._waiter.look_up(desk, video_id)
        named = variant_of(video_id, "task_id", entry)
        async with self._saving[entry.request_id]:
            entry = await self._ledger.find(desk.account, entry.request_id) or entry
            return await files.save(entry, named or variant, desk.label, on_bytes)

    async def read(self, video_id: str, *, variant: int = 1, max_bytes: int) -> bytes:
        """One variant as it is, saved or not. Raises FileProblem where it is larger, NotReady and what `get` raises."""
        desk = await self._desk()
        files = self._files(desk)
        entry = await self._waiter.look_up(desk, video_id)
        return await files.read(entry, variant, max_bytes)

    async def recent(self, *, limit: int, states: tuple[State, ...] = ()) -> VideoList:
        """The newest videos as the ledger has them: the gateway is not asked, and where none is set there are none."""
        if not self._ledger.exists() or self.label == report.NOT_CONFIGURED:
            return VideoList(gateway=self.label, videos=[])
        entries = await self._ledger.page((await self._desk()).account, limit=limit, states=states)
        return VideoList(gateway=self.label, videos=[report.listed(entry) for entry in entries])

    def on_change(self, told: Told, wanted: Wanted) -> Callable[[], None]:
        """Have every row told that changes while this studio watches; the result ends that.

        Somebody waits for the videos whose ids are `wanted`: `wake` is called when there are more.
        """
        listener = (told, wanted)
        self._watcher.listeners.append(listener)
        return lambda: self._watcher.listeners.remove(listener)

    def wake(self) -> None:
        """Look at once for what somebody waits for now."""
        self._watcher.wake()

    async def settle(self, request_id: str, task_id: str | None) -> Video:
        """A person looked at the gateway's own log: an *unknown* request became `task_id`, or (None) nothing.

        The gateway is asked first: it has to know `task_id`. A request that has a task is given up by None where the
        gateway knows nothing of it any more, or a day after it was made. Raises NotFound where there is no such
        request, or no such task.
        """
        desk = await self._desk()
        if task_id is not None:
            await self._check_known(desk, request_id, task_id)
        given_up = await self._finder.given_up(desk, request_id) if task_id is None else None
        entry = await self._ledger.settle(desk.account, request_id, task_id, given_up=given_up)
        if entry is None:
            known = await self._ledger.find(desk.account, request_id)
            raise NotFound(report.not_settled(request_id, known), "See list_videos.")
        return report.video(entry, desk.label)

    async def _check_known(self, desk: Desk, request_id: str, task_id: str) -> None:
        """Raise InvalidInput or NotFound for a task that cannot have come of a request."""
        if not dialect.is_id(task_id):
            raise InvalidInput([Problem("task", "is not an id", "task_…")])
        await self._finder.check_owner(desk, task_id)
        try:
            await desk.gateway.query(task_id)
        except NotFound:
            entry = await self._ledger.find(desk.account, request_id)
            if entry is None or entry.account == desk.account:
                raise
            # It was made with another key: only that one is told, and a person has looked.

    @property
    def sent(self) -> Entry | None:
        """The row of what was last sent to the gateway from here, and paid for perhaps."""
        return self._submitter.sent

    @property
    def label(self) -> str:
        """The gateway's name for people: its host, `sandbox`, or that none is configured."""
        try:
            return self.settings.endpoint().label
        except SoraError:
            return report.NOT_CONFIGURED

    async def _find_video(self, video_id: str) -> Entry:
        return await self._finder.look_up(await self._desk(), video_id)

    async def _is_recorded(self, video_id: str) -> bool:
        return await self._ledger.find((await self._desk()).account, video_id) is not None

    async def _find_generation(self, generation_id: str) -> Found | None:
        desk = await self._desk()
        found = await self._ledger.find_generation(desk.account, generation_id)
        if found is None:
            await self._finder.check_owner(desk, generation_id)
            if self.settings.owner:  # whose it is cannot be known
                raise NotFound(f"{generation_id} is not known here.", "Call get_video with its task first.")
        return found

    # --- wiring -----------------------------------------------------------------------------------

    async def _desk(self) -> Desk:
        if self._opened is not None:  # taking a lock, even a free one, would be a turn of the event loop
            return self._opened
        async with self._opening:
            if self._opened is None:
                self._opened = await self._open_desk()
            return self._opened

    async def _open_desk(self) -> Desk:
        endpoint = self.settings.endpoint()
        key, owner = endpoint.api_key.get_secret_value(), self.settings.owner or ""
        account = await self._ledger.account(endpoint.base_url, key, owner)
        return Desk(self.settings, endpoint, account, self.label)

    async def _save_all(self, entry: Entry) -> None:
        """Save every variant that can be saved; raises the first error, once all were tried."""
        failed: list[SoraError] = []
        for generation in entry.generations:
            if generation.url is not None and generation.variant not in entry.files:
                try:
                    await self.download(entry.request_id, variant=generation.variant)
                except SoraError as error:
                    failed.append(error)
        if failed:
            raise failed[0]

    def _files(self, desk: Desk) -> Files:
        from sora_mcp.studio.files import Files  # noqa: PLC0415 - only downloads need it

        async def refresh(entry: Entry) -> Entry:
            return await self._finder.ask(desk, entry, anyway=True)

        return Files(self.settings, desk.gateway, self._ledger, refresh)


@contextmanager
def _nothing_sent() -> Iterator[None]:
    """Whatever goes wrong inside, nothing was submitted, and is said to be so."""
    try:
        yield
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
