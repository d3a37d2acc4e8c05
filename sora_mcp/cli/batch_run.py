"""Run the lines of a batch: a limited number at a time, each sent once, followed until it has finished, reported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anyio
from msgspec import Struct
from msgspec.structs import replace

from sora_mcp import tools
from sora_mcp.cli.batch_files import Request
from sora_mcp.cli.wording import FOR_SHELL
from sora_mcp.core.advice import SeeLog
from sora_mcp.core.caps import OverCap, TooManyRunning
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import FileProblem, GatewayError, InternalError, NotConfigured, SoraError
from sora_mcp.core.records import DAY_S, RecordedLine, cost_fields
from sora_mcp.core.results import Submission, Video
from sora_mcp.core.states import OPEN, REFUSED
from sora_mcp.core.tasks import FINAL, UNDER_WAY
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""How often a line is sent in one run if the gateway refuses it temporarily or can't be reached."""
MAX_RETRY_DELAY_S = 60.0
POLL_INTERVAL_S = 1.0
"""Seconds between two checks whether the cap on videos under way allows another one."""
_FATAL_STATUSES = frozenset({401, 402, 403})
"""Refusals of the key or of the account: every other line would be refused, too."""

LineResult = dict[str, Any]
"""The result of a line, as JSON."""


class PlannedLine(Struct, frozen=True):
    """A line and what to do with it: `known` is its entry from an earlier run, `cost` what it will cost, if known.

    `is_pending`: it is to be sent in this run. `is_changed`: it differs from the request that was sent for it.
    `duplicate_of`: an earlier video for the same request that belongs to no line of this file, and is used for this.
    """

    request: Request
    known: RecordedLine | None = None
    cost: Cost | None = None
    is_pending: bool = True
    is_changed: bool = False
    duplicate_of: str | None = None


def plan_lines(requests: Iterable[Request], known: dict[str, RecordedLine], *, retry_failed: bool) -> list[PlannedLine]:
    """Plan each line by what the ledger knows about it."""
    plans = []
    for request in requests:
        earlier = known.get(request.line.key)
        if earlier is None:
            plans.append(PlannedLine(request))
            continue
        if retry_failed and earlier.entry.state in REFUSED:
            retry = replace(request.line, after=earlier.entry.request_id)
            plans.append(PlannedLine(replace(request, line=retry), earlier))
            continue
        is_changed = earlier.digest != request.line.digest
        plans.append(PlannedLine(request, earlier, is_pending=False, is_changed=is_changed))
    return plans


class BatchRun:
    """One run over a batch. `report` is called once for each line, as soon as it has ended."""

    def __init__(self, studio: Studio, report: Callable[[LineResult], None], *, download: bool) -> None:
        self._studio = studio
        self._report = report
        self._download = download
        self.stop_reason: str | None = None
        """A sentence that says why nothing more is sent; None while lines are still sent."""

    async def run(self, plans: Sequence[PlannedLine], max_concurrent: int) -> None:
        """Report the lines that have ended, follow those under way, and send the rest, `max_concurrent` at a time."""
        for plan in plans:
            if not plan.is_pending and not _is_under_way(plan):
                await self._finish(plan, _recorded_result(plan))
        to_send = [plan for plan in plans if plan.is_pending]
        queue = iter([*filter(_is_under_way, plans), *to_send])
        async with anyio.create_task_group() as workers:
            for _ in range(max_concurrent):
                workers.start_soon(self._run_worker, queue)

    async def _run_worker(self, queue: Iterable[PlannedLine]) -> None:
        for plan in queue:
            try:
                line = await self._process(plan)
            except Exception:
                logger.exception("line %d failed unexpectedly", plan.request.number)
                line = _line_result(plan.request, "unknown") | _error_fields(
                    InternalError("Something failed unexpectedly.", SeeLog())
                )
            await self._finish(plan, line)

    async def _process(self, plan: PlannedLine) -> LineResult:
        line = await self._submit(plan) if plan.is_pending else _recorded_result(plan)
        return await self._follow(line) if line["state"] in {"sending", *UNDER_WAY} else line

    async def _finish(self, plan: PlannedLine, line: LineResult) -> None:
        if self._download and line["state"] == "succeeded":
            line |= await self._download_variants(line["task_id"])
        self._report(line | _change_warning(plan))

    # --- sending ----------------------------------------------------------------------------------

    async def _submit(self, plan: PlannedLine) -> LineResult:
        """Send a line, with retries. Return its result: under way, or why not."""
        request = plan.request
        for attempt in range(1, MAX_ATTEMPTS + 1):
            if self.stop_reason is not None:
                return _line_result(request, "not_submitted")
            try:
                submission = await self._submit_below_cap(request)
            except SoraError as error:
                delay = min(2.0**attempt, MAX_RETRY_DELAY_S) if error.retry_after_s is None else error.retry_after_s
                may_succeed_later = error.can_retry and error.outcome in {"rejected", "not_submitted"}
                if not may_succeed_later or attempt == MAX_ATTEMPTS or delay > MAX_RETRY_DELAY_S:
                    self._stop_if_fatal(error, may_succeed_later=may_succeed_later)
                    return _line_result(request, _state_after_error(error)) | _error_fields(error)
                if error.request_id is not None:
                    request = replace(request, line=replace(request.line, after=error.request_id))
                await anyio.sleep(delay)
            else:
                return _line_result(request, "submitted") | _submission_fields(submission)
        raise AssertionError("the last attempt returns")

    async def _submit_below_cap(self, request: Request) -> Submission:
        """Submit a request as soon as the cap on videos under way allows it. Raise what `Studio.submit` raises."""
        caller = tools.Caller(wording=FOR_SHELL, line=request.line)
        deadline = anyio.current_time() + DAY_S
        while True:
            try:
                submission: Submission = await tools.TABLE[request.tool].run(self._studio, request.arguments, caller)
            except TooManyRunning as error:
                if not error.is_temporary or self.stop_reason is not None or anyio.current_time() > deadline:
                    raise
                await anyio.sleep(POLL_INTERVAL_S)
            else:
                return submission

    def _stop_if_fatal(self, error: SoraError, *, may_succeed_later: bool) -> None:
        """Send nothing more if every other line would fail, too."""
        is_fatal = may_succeed_later or error.http_status in _FATAL_STATUSES
        if is_fatal or isinstance(error, NotConfigured | OverCap | FileProblem | InternalError):
            self.stop_reason = self.stop_reason or FOR_SHELL.message(error.parts)

    # --- following --------------------------------------------------------------------------------

    async def _follow(self, line: LineResult) -> LineResult:
        """Wait until the video of a line has finished, at most a day, and return the line's result."""
        with anyio.move_on_after(DAY_S):
            while True:
                try:
                    video = await self._studio.get(line.get("task_id") or line["request_id"], wait_seconds=50)
                except SoraError as error:
                    if not (isinstance(error, GatewayError) and error.can_retry):
                        return line | _error_fields(error)
                    await anyio.sleep(error.retry_after_s or POLL_INTERVAL_S)
                    continue
                if video.state in FINAL or video.state == "unknown":
                    if video.state != "unknown":
                        line.pop("error", None)
                    return line | _video_fields(video)
        return line

    async def _download_variants(self, task_id: str) -> LineResult:
        """Download all variants of a finished video. Return their paths, or the error."""
        try:
            video = await self._studio.get(task_id)
            variants = [each.variant for each in video.generations if each.url] or [1]
            paths = [(await self._studio.download(task_id, variant=variant)).path for variant in variants]
        except SoraError as error:
            return _error_fields(error)
        return {"path": paths[0]} | ({"paths": paths} if len(paths) > 1 else {})


def _is_under_way(plan: PlannedLine) -> bool:
    """Whether the line was sent before and is still under way, here or in another process."""
    return not plan.is_pending and plan.known is not None and plan.known.entry.state in {"sending", *UNDER_WAY}


def _line_result(request: Request, state: str, **fields: object) -> LineResult:
    name_field = {} if request.name is None else {"name": request.name}
    return {"line": request.number, **name_field, "state": state, **fields}


def _recorded_result(plan: PlannedLine) -> LineResult:
    """Return the result of a line from the ledger."""
    if plan.known is None:
        return _line_result(plan.request, "not_submitted")
    entry = plan.known.entry
    ids = {"task_id": entry.task_id} if entry.task_id else {}
    line = _line_result(plan.request, entry.state, **ids, request_id=entry.request_id)
    line |= cost_fields(entry.best_cost, is_stated=entry.stated is not None)
    reason = entry.gateway_message or entry.failure_reason
    return line | ({"reason": reason} if reason and entry.state in {*REFUSED, "unknown"} else {})


def _submission_fields(submission: Submission) -> LineResult:
    names = {"task_id", "request_id", "cost", "unit", "duplicate"}
    return submission.model_dump(include=names, exclude_none=True)


def _video_fields(video: Video) -> LineResult:
    names = {"state", "task_id", "request_id", "cost", "unit", "cost_from"}
    reason = video.gateway_message or video.failure_reason
    fields = video.model_dump(include=names, exclude_none=True)
    return fields | ({"reason": reason} if reason and video.state != "succeeded" else {})


def _error_fields(error: SoraError) -> LineResult:
    error_json = {
        "kind": error.kind,
        "message": FOR_SHELL.message(error.parts),
        "next_step": FOR_SHELL.next_step(error),
    }
    error_json |= {"gateway_message": error.upstream or error.answer} if error.upstream or error.answer else {}
    return {"error": error_json} | ({} if error.request_id is None else {"request_id": error.request_id})


def _state_after_error(error: SoraError) -> str:
    """Return the state of a line whose call failed; for "sending", `Studio.get` returns what became of it."""
    if error.request_id is None:
        return error.outcome or "unknown"
    return "sending" if error.outcome == "unknown" else "rejected"


def _change_warning(plan: PlannedLine) -> LineResult:
    if not plan.is_changed:
        return {}
    message = "This line was changed after it was sent; what it asks for now was not sent."
    next_step = "Give it another name to have that made, too."
    if plan.known is not None and plan.known.entry.state not in {*OPEN, "succeeded"}:
        next_step = "Run the batch again with --retry-failed to have that made."
    return {"error": {"kind": "changed", "message": message, "next_step": next_step}}
