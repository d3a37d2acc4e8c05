"""What can be done with videos, without MCP: submit, look, wait, list, view, download.

The rules "never pay twice" and "never forget" live here. All wiring is in `Studio.open`; nothing
below knows who stands beside it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Self

import anyio
from anyio.abc import TaskGroup

from sora_mcp import dialect
from sora_mcp.errors import (
    BadReply,
    FileProblem,
    GatewayError,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Problem,
    Refused,
    SoraError,
    Unreachable,
)
from sora_mcp.ledger import Entry, Ledger
from sora_mcp.models import FINAL, State, VideoRequest
from sora_mcp.results import Download, Look, Submission, Video, VideoList
from sora_mcp.settings import Endpoint, Settings
from sora_mcp.studio import report
from sora_mcp.studio.sources import Found, Resolved, resolve, take_local_images

if TYPE_CHECKING:
    import httpx

    from sora_mcp.gateway import Gateway
    from sora_mcp.studio.files import Files

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 50.0
"""Seconds after which a paid call answers that it is still sending (hosts give up after 60); the POST goes on."""
RESOLVE_WITHIN = 15.0
"""Seconds for everything that comes before the POST."""
REFRESH_WITHIN = 10.0
"""Seconds that a list may take to ask about unfinished videos."""
PACE = 10.0
"""Seconds between two queries of a task: gateways refresh every 15 s, so asking faster gains nothing."""
LOCAL_PACE = 0.3
"""The same for a gateway on this machine."""

WaitProgress = Callable[[Video], Awaitable[None]]
"""Told the video each time it was looked at while waiting."""


class _Desk:
    """One gateway with its name in the ledger (`name`) and to the world (`label`).

    The client, and with it everything that speaks HTTP, is loaded when something is really asked.
    """

    def __init__(self, settings: Settings, endpoint: Endpoint, name: str, label: str) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self.name = name
        self.label = label
        self.pace = LOCAL_PACE if endpoint.local else PACE

    @cached_property
    def gateway(self) -> Gateway:
        """The client. Raises NotConfigured where the address cannot be one."""
        from sora_mcp.gateway import Gateway  # noqa: PLC0415

        transport: httpx.AsyncBaseTransport | None = None
        if self._endpoint.sandbox:
            from sora_mcp.sandbox import Sandbox  # noqa: PLC0415

            settings = self._settings
            sandbox = Sandbox(settings.home / "sandbox", seconds=settings.sandbox_seconds, limits=settings.limits)
            transport = sandbox.transport()
        return Gateway(self._endpoint, self._settings, transport=transport)

    async def aclose(self) -> None:
        """Close the client, if there is one."""
        if "gateway" in self.__dict__:
            await self.gateway.aclose()


@dataclass(slots=True)
class _Sending:
    """One POST under way, or done: `finished` is set when its outcome is recorded."""

    finished: anyio.Event = field(default_factory=anyio.Event)
    entry: Entry | None = None
    error: SoraError | None = None


class Studio:
    """Everything that can be done; made by `Studio.open`. All methods raise SoraError and nothing else."""

    def __init__(self, settings: Settings, ledger: Ledger, background: TaskGroup) -> None:
        self.settings = settings
        self._ledger = ledger
        self._background = background
        self._sending: dict[str, _Sending] = {}
        self._opened: _Desk | None = None
        self._opening = anyio.Lock()

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

    async def submit(self, draft: VideoRequest, *, dry_run: bool = False) -> Submission:
        """Submit the request once and return its task id; with `dry_run` send nothing and return the body.

        In `draft` a source may be a `task_…` id and an image a local path. Raises InvalidInput,
        NotConfigured, NotFound, NotReady or FileProblem (nothing was submitted), Unreachable, Refused
        or OutcomeUnknown.
        """
        answer_by = anyio.current_time() + ANSWER_WITHIN
        try:
            given = take_local_images(draft, self.settings.image_dirs)
            given.request.check(self.settings.limits)
            with anyio.fail_after(RESOLVE_WITHIN):
                ready = await resolve(given, self._find_finished, self._find_generation)
                ready.request.check(self.settings.limits)
                if dry_run:
                    return self._dry_run(ready)
                desk = await self._desk()
                request = await _upload_images(desk.gateway, ready)
        except TimeoutError:
            raise _not_submitted(
                BadReply("The gateway took too long over what the video is made from.", "Try again later.")
            ) from None
        except SoraError as error:
            raise _not_submitted(error) from None
        return await self._submit(desk, request, ready.sources, answer_by)

    def _dry_run(self, ready: Resolved) -> Submission:
        told = report.submission(ready.request, self.label, "not_submitted")
        body = dialect.body(ready.request, self.settings.sdedit_source)
        return told.model_copy(update={"body": body, "sources": ready.sources})

    async def _submit(self, desk: _Desk, request: VideoRequest, sources: list[str], answer_by: float) -> Submission:
        sending = _Sending()
        self._background.start_soon(self._pay, desk, request, sources, sending)
        with anyio.CancelScope(deadline=answer_by):
            await sending.finished.wait()
        if sending.error is not None:
            if sending.entry is not None:
                sending.error.request_id = sending.entry.request_id
            raise sending.error
        if sending.entry is None:
            raise _not_submitted(FileProblem("The ledger did not answer in time.", "Try again later."))
        if sending.entry.state == "sending":
            error = OutcomeUnknown(
                "The gateway has not answered the create yet; it is still being sent.",
                f"Call get_video with {sending.entry.request_id} in a minute; do not submit it again.",
            )
            error.request_id = sending.entry.request_id
            raise error
        return report.submission(request, desk.label, "accepted", sending.entry)

    async def _pay(self, desk: _Desk, request: VideoRequest, sources: list[str], sending: _Sending) -> None:
        """Record the intent, POST once, record the outcome. Nothing cancels it once it has begun."""
        with anyio.CancelScope(shield=True):
            body = dialect.body(request, self.settings.sdedit_source)
            try:
                sending.entry = await self._ledger.begin(
                    desk.name, request.operation, body, sources=sources, cost=request.cost()
                )
            except FileProblem as error:
                sending.error = _not_submitted(error)
            else:
                self._sending[sending.entry.request_id] = sending
                await self._post(desk, body, sending, sending.entry.request_id)
                self._sending.pop(sending.entry.request_id, None)
            sending.finished.set()

    async def _post(self, desk: _Desk, body: dict[str, object], sending: _Sending, request_id: str) -> None:
        state: State = "rejected"
        try:
            task_id = await desk.gateway.create(body)
        except (Unreachable, Refused) as error:
            sending.error = error
        except GatewayError as error:
            sending.error, state = error, "unknown"
        except Exception:
            logger.exception("create %s failed in an unforeseen way", request_id)
            state = "unknown"
            sending.error = OutcomeUnknown(
                "The create failed in an unforeseen way.", "Tell the user; details are in the server's log."
            )
        try:
            if sending.error is None:
                sending.entry = await self._ledger.accepted(request_id, task_id)
            else:
                sending.entry = await self._ledger.not_accepted(request_id, state, sending.error.message)
        except FileProblem as error:
            logger.error("the outcome of %s could not be recorded: %s", request_id, error)  # noqa: TRY400
            if sending.error is None:
                sending.error = OutcomeUnknown(
                    f"The gateway accepted it as {task_id}, but the ledger cannot be written.",
                    f"Note {task_id}: get_video finds it. {error.next_step} Do not submit it again.",
                )

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
            if entry.task_id is None and entry.request_id not in self._sending:
                break
            with anyio.CancelScope(deadline=deadline):
                await self._pause(entry, desk.pace)
                try:
                    entry, gateway_state = await self._look_up(desk, entry.id)
                except (BadReply, Unreachable) as error:
                    logger.info("a query while waiting failed: %s", error.message)
            told = report.video(entry, desk.label, gateway_state)
        return told

    async def list_videos(
        self, *, states: tuple[State, ...] = (), limit: int = 20, cursor: str | None = None
    ) -> VideoList:
        """The caller's videos at this gateway, newest first; unfinished ones are asked about, within bounds."""
        desk = await self._desk()
        before = _read_cursor(cursor)
        entries = await self._ledger.page(desk.name, limit=limit + 1, before=before, states=states)
        page, more = entries[:limit], len(entries) > limit
        if await self._refresh_unfinished(desk, page):
            page = await self._ledger.page(desk.name, limit=limit, before=before, states=states)
        return VideoList(
            gateway=desk.label,
            videos=[report.listed(entry) for entry in page],
            next_cursor=str(page[-1].number) if more and page else None,
        )

    async def view(self, video_id: str, *, variant: int = 1, frames: int = 6) -> Look:
        """A contact sheet (PNG) of one variant. Raises NotReady and what `get` raises."""
        desk = await self._desk()
        entry = await self._find_finished(video_id)
        return await self._files(desk).look(entry, variant, frames, desk.label)

    async def download(
        self, video_id: str, *, variant: int = 1, on_bytes: Callable[[int, int | None], Awaitable[None]] | None = None
    ) -> Download:
        """Save one variant in the output folder. Raises NotReady, FileProblem and what `get` raises."""
        desk = await self._desk()
        entry = await self._find_finished(video_id)
        if on_bytes is None:
            return await self._files(desk).save(entry, variant, desk.label)
        return await self._files(desk).save(entry, variant, desk.label, on_bytes)

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
                f"No request {request_id} with an unknown outcome stands at this gateway.", "See list_videos."
            )
        return report.video(entry, desk.label)

    @property
    def label(self) -> str:
        """The gateway's name for people: its host, `sandbox`, or that none is configured."""
        try:
            endpoint = self.settings.endpoint()
        except SoraError:
            return "not configured"
        return "sandbox" if endpoint.sandbox else endpoint.base_url.partition("://")[2]

    # --- looking up -------------------------------------------------------------------------------

    async def _look_up(self, desk: _Desk, video_id: str) -> tuple[Entry, str | None]:
        """The row, asked anew if it is unfinished, and the gateway's own word for its state."""
        video_id = video_id.strip()
        if not dialect.is_id(video_id):
            raise InvalidInput([Problem("task_id", "is not an id", "task_… or req_…")])
        entry = await self._ledger.find(desk.name, video_id)
        if entry is None:
            if video_id.startswith("req_"):
                raise NotFound(f"No request {video_id} was made at this gateway.", "Look at list_videos.")
            task = await desk.gateway.query(video_id)
            return await self._ledger.adopt(desk.name, video_id, task), task.gateway_state
        if entry.task_id is None or entry.state in FINAL:
            return entry, None
        task = await desk.gateway.query(entry.task_id)
        return await self._ledger.record(desk.name, entry.task_id, task), task.gateway_state

    async def _find_finished(self, video_id: str) -> Entry:
        entry, _ = await self._look_up(await self._desk(), video_id)
        return entry

    async def _find_generation(self, generation_id: str) -> Found | None:
        desk = await self._desk()
        return await self._ledger.find_generation(desk.name, generation_id)

    async def _refresh_unfinished(self, desk: _Desk, entries: list[Entry]) -> bool:
        """Ask about the unfinished ones, eight at once; whoever does not answer in time stays as it is."""
        unfinished = [e for e in entries if e.task_id is not None and e.state not in FINAL]
        at_once = anyio.CapacityLimiter(8)

        async def ask(entry: Entry) -> None:
            async with at_once:
                try:
                    await self._look_up(desk, entry.id)
                except SoraError as error:
                    logger.info("a query for the list failed: %s", error.message)

        with anyio.move_on_after(REFRESH_WITHIN):
            async with anyio.create_task_group() as asking:
                for entry in unfinished:
                    asking.start_soon(ask, entry)
        return bool(unfinished)

    async def _pause(self, entry: Entry, seconds: float) -> None:
        sending = self._sending.get(entry.request_id)
        with anyio.move_on_after(seconds):
            if sending is not None:
                await sending.finished.wait()
            else:
                await anyio.sleep(seconds)

    # --- wiring -----------------------------------------------------------------------------------

    async def _desk(self) -> _Desk:
        async with self._opening:
            if self._opened is None:
                self._opened = await self._open_desk()
            return self._opened

    async def _open_desk(self) -> _Desk:
        endpoint = self.settings.endpoint()
        name = await self._ledger.gateway_name(endpoint.base_url, endpoint.api_key.get_secret_value())
        return _Desk(self.settings, endpoint, name, self.label)

    def _files(self, desk: _Desk) -> Files:
        from sora_mcp.studio.files import Files  # noqa: PLC0415 - only downloads need it

        async def refresh(entry: Entry) -> Entry:
            task = await desk.gateway.query(entry.task_id or "")
            return await self._ledger.record(desk.name, entry.task_id or "", task)

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
