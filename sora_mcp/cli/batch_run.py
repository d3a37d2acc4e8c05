"""The lines of a batch at work: so many at once, each sent once, followed until it has finished, and told."""

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
from sora_mcp.core.records import DAY_S, KnownLine, told_cost
from sora_mcp.core.results import Submission, Video
from sora_mcp.core.states import OPEN, REFUSED
from sora_mcp.core.tasks import FINAL, UNDER_WAY
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a line is tried in one run where the gateway refuses it for now, or can't be reached."""
LONGEST_PAUSE_S = 60.0
ROOM_EVERY_S = 1.0
"""Seconds between two looks at whether there is room below the cap on videos under way."""
_NO_USE = frozenset({401, 402, 403})
"""Refusals of the key or of the account: every other line would meet them, too."""

Line = dict[str, Any]
"""What is told of a line, as JSON."""


class Planned(Struct, frozen=True):
    """A line and what is to become of it: `known` is what it became already, `cost` what it will cost, if known.

    `is_sent`: it is sent in this run. `is_changed`: it asks for something else than what was sent for it.
    `duplicate_of`: what was made before for the same request, but for no line of this file, and is taken for it.
    """

    request: Request
    known: KnownLine | None = None
    cost: Cost | None = None
    is_sent: bool = True
    is_changed: bool = False
    duplicate_of: str | None = None


def planned(requests: Iterable[Request], known: dict[str, KnownLine], *, retry_failed: bool) -> list[Planned]:
    """What becomes of each line, as far as the ledger tells."""
    plans = []
    for request in requests:
        before = known.get(request.line.key)
        if before is None:
            plans.append(Planned(request))
            continue
        if retry_failed and before.entry.state in REFUSED:
            again = replace(request.line, after=before.entry.request_id)
            plans.append(Planned(replace(request, line=again), before))
            continue
        is_changed = before.digest != request.line.digest
        plans.append(Planned(request, before, is_sent=False, is_changed=is_changed))
    return plans


class Run:
    """One run over a batch. `tell` is called once for each line, as soon as it has ended."""

    def __init__(self, studio: Studio, tell: Callable[[Line], None], *, download: bool) -> None:
        self._studio = studio
        self._tell = tell
        self._download = download
        self.stopped: str | None = None
        """Why nothing more is sent, in a sentence."""

    async def run(self, plans: Sequence[Planned], at_once: int) -> None:
        """Tell what has ended already, follow what is under way, and send the rest: `at_once` lines at a time."""
        for plan in plans:
            if not plan.is_sent and not _is_followed(plan):
                await self._end(plan, _of_known(plan))
        to_send = [plan for plan in plans if plan.is_sent]
        waiting = iter([*filter(_is_followed, plans), *to_send])
        async with anyio.create_task_group() as workers:
            for _ in range(at_once):
                workers.start_soon(self._work, waiting)

    async def _work(self, waiting: Iterable[Planned]) -> None:
        for plan in waiting:
            try:
                line = await self._made(plan)
            except Exception:
                logger.exception("line %d failed unexpectedly", plan.request.number)
                line = _line(plan.request, "unknown") | _why(InternalError("Something failed unexpectedly.", SeeLog()))
            await self._end(plan, line)

    async def _made(self, plan: Planned) -> Line:
        line = await self._submit(plan) if plan.is_sent else _of_known(plan)
        return await self._follow(line) if line["state"] in {"sending", *UNDER_WAY} else line

    async def _end(self, plan: Planned, line: Line) -> None:
        if self._download and line["state"] == "succeeded":
            line |= await self._saved(line["task_id"])
        self._tell(line | _changed(plan))

    # --- sending ----------------------------------------------------------------------------------

    async def _submit(self, plan: Planned) -> Line:
        """What became of a line that is to be sent: under way, or why not."""
        request = plan.request
        for attempt in range(1, ATTEMPTS + 1):
            if self.stopped is not None:
                return _line(request, "not_submitted")
            try:
                submission = await self._once_there_is_room(request)
            except SoraError as error:
                pause = min(2.0**attempt, LONGEST_PAUSE_S) if error.retry_after_s is None else error.retry_after_s
                may_work = error.can_retry and error.outcome in {"rejected", "not_submitted"}
                if not may_work or attempt == ATTEMPTS or pause > LONGEST_PAUSE_S:
                    self._stop_at(error, still=may_work)
                    return _line(request, _state_after(error)) | _why(error)
                if error.request_id is not None:
                    request = replace(request, line=replace(request.line, after=error.request_id))
                await anyio.sleep(pause)
            else:
                return _line(request, "submitted") | _of_submission(submission)
        raise AssertionError("the last attempt returns")

    async def _once_there_is_room(self, request: Request) -> Submission:
        """Submit it, once the cap on videos under way lets it through. Raises what `Studio.submit` raises."""
        caller = tools.Caller(wording=FOR_SHELL, line=request.line)
        give_up_at = anyio.current_time() + DAY_S
        while True:
            try:
                submission: Submission = await tools.TABLE[request.tool].run(self._studio, request.arguments, caller)
            except TooManyRunning as error:
                if not error.will_pass or self.stopped is not None or anyio.current_time() > give_up_at:
                    raise
                await anyio.sleep(ROOM_EVERY_S)
            else:
                return submission

    def _stop_at(self, error: SoraError, *, still: bool) -> None:
        """Send nothing more where every other line would fail, too."""
        is_useless = still or error.http_status in _NO_USE
        if is_useless or isinstance(error, NotConfigured | OverCap | FileProblem | InternalError):
            self.stopped = self.stopped or FOR_SHELL.message(error.parts)

    # --- following --------------------------------------------------------------------------------

    async def _follow(self, line: Line) -> Line:
        """A line under way, once its video has finished; a day is waited at most."""
        with anyio.move_on_after(DAY_S):
            while True:
                try:
                    video = await self._studio.get(line.get("task_id") or line["request_id"], wait_seconds=50)
                except SoraError as error:
                    if not (isinstance(error, GatewayError) and error.can_retry):
                        return line | _why(error)
                    await anyio.sleep(error.retry_after_s or ROOM_EVERY_S)
                    continue
                if video.state in FINAL or video.state == "unknown":
                    before = line if video.state == "unknown" else _without(line, "error")
                    return before | _of_video(video)
        return line

    async def _saved(self, task_id: str) -> Line:
        """The files of a video that has succeeded, or why they are not there."""
        try:
            video = await self._studio.get(task_id)
            variants = [each.variant for each in video.generations if each.url] or [1]
            paths = [(await self._studio.download(task_id, variant=variant)).path for variant in variants]
        except SoraError as error:
            return _why(error)
        return {"path": paths[0]} | ({"paths": paths} if len(paths) > 1 else {})


def _is_followed(plan: Planned) -> bool:
    """Whether it is under way, here or in another process."""
    return not plan.is_sent and plan.known is not None and plan.known.entry.state in {"sending", *UNDER_WAY}


def _line(request: Request, state: str, **fields: object) -> Line:
    named = {} if request.name is None else {"name": request.name}
    return {"line": request.number, **named, "state": state, **fields}


def _of_known(plan: Planned) -> Line:
    """What a line became before this run."""
    if plan.known is None:
        return _line(plan.request, "not_submitted")
    entry = plan.known.entry
    ids = {"task_id": entry.task_id} if entry.task_id else {}
    line = _line(plan.request, entry.state, **ids, request_id=entry.request_id)
    line |= told_cost(entry.best_cost, is_stated=entry.stated is not None)
    reason = entry.gateway_message or entry.failure_reason
    return line | ({"reason": reason} if reason and entry.state in {*REFUSED, "unknown"} else {})


def _without(line: Line, name: str) -> Line:
    return {key: value for key, value in line.items() if key != name}


def _of_submission(submission: Submission) -> Line:
    names = {"task_id", "request_id", "cost", "unit", "duplicate"}
    return submission.model_dump(include=names, exclude_none=True)


def _of_video(video: Video) -> Line:
    names = {"state", "task_id", "request_id", "cost", "unit", "cost_from"}
    reason = video.gateway_message or video.failure_reason
    fields = video.model_dump(include=names, exclude_none=True)
    return fields | ({"reason": reason} if reason and video.state != "succeeded" else {})


def _why(error: SoraError) -> Line:
    failure = {"kind": error.kind, "message": FOR_SHELL.message(error.parts), "next_step": FOR_SHELL.next_step(error)}
    failure |= {"gateway_message": error.upstream or error.answer} if error.upstream or error.answer else {}
    return {"error": failure} | ({} if error.request_id is None else {"request_id": error.request_id})


def _state_after(error: SoraError) -> str:
    """The state of a line whose call failed so; whether it is sent still, `Studio.get` tells."""
    if error.request_id is None:
        return error.outcome or "unknown"
    return "sending" if error.outcome == "unknown" else "rejected"


def _changed(plan: Planned) -> Line:
    if not plan.is_changed:
        return {}
    message = "This line was changed after it was sent; what it asks for now was not sent."
    step = "Give it another name to have that made, too."
    if plan.known is not None and plan.known.entry.state not in {*OPEN, "succeeded"}:
        step = "Run the batch again with --retry-failed to have that made."
    return {"error": {"kind": "changed", "message": message, "next_step": step}}
