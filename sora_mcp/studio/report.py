"""Rows of the ledger as results for callers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sora_mcp.config.endpoint import IN_PROCESS
from sora_mcp.core import plans
from sora_mcp.core.advice import (
    Advice,
    CheckAgain,
    Configure,
    Do,
    MayBeOutdated,
    MoreIds,
    Revise,
    Settle,
    SettledAsNotRun,
    Submit,
    TellUser,
    UnknownState,
    UseVideo,
    Wait,
)
from sora_mcp.core.capabilities import Adjustment, verb_of
from sora_mcp.core.cost import Cost, Estimate, describe_cost
from sora_mcp.core.errors import MAX_NAMED, Outcome, SoraError
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.records import detect_damage, sent_frames, sent_size, summary
from sora_mcp.core.results import Adjusted, ListedVideo, Submission, Variant, Video, VideoBeat, VideoItem
from sora_mcp.core.states import describe_state
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import UNDER_WAY, Generation, clean, is_plain_id
from sora_mcp.dialects.protocol import Dialect, ListedTask, Plan
from sora_mcp.ledger import Entry
from sora_mcp.studio.connector import NOT_CONFIGURED


def video(
    entry: Entry,
    gateway: str,
    query_error: SoraError | None = None,
    *,
    dialect: Dialect,
    age_s: float | None = None,
    usual_s: float | None = None,
) -> Video:
    """Return everything known about one video. `query_error`: why the gateway could not be queried just now.

    `dialect`: that of the gateway. `age_s` and `usual_s`: seconds since its creation, and what videos usually take.
    """
    stale_advice = () if query_error is None else (MayBeOutdated(query_error.parts),)
    with detect_damage(entry.request_id):
        n_variants = entry.body.get("n_variants")
        return Video(
            **summary(entry, 2000) | _request_fields(entry),
            gateway=gateway,
            progress=entry.progress,
            gateway_state=entry.gateway_state,
            enhanced_prompt=entry.enhanced_prompt,
            failure_reason=entry.failure_reason,
            failure_code=entry.failure_code,
            gateway_message=entry.gateway_message,
            gateway_answer=entry.answer if entry.state == "unknown" else None,
            other_ids=list(entry.other_ids),
            n_variants=n_variants if isinstance(n_variants, int) else None,
            age_seconds=None if age_s is None else round(age_s),
            usual_seconds=None if usual_s is None else max(1, round(usual_s)),
            withheld=entry.withheld if entry.state == "succeeded" else None,
            adjusted=adjusted(entry.adjusted),
            generations=[
                Variant(variant=g.variant, generation_id=g.generation_id, url=_address(entry, g))
                for g in entry.generations
            ],
            files=[str(file) for _, file in sorted(entry.files.items())],
            advice=(*stale_advice, *advice(entry, dialect)),
        )


def _request_fields(entry: Entry) -> dict[str, Any]:
    """Return the parts of a request that would have to be repeated to get the same video again."""
    beats = [
        VideoBeat(time=beat.frame, seconds=round(beat.frame / FPS, 2), description=beat.description)
        for beat in plans.shortened_beats(entry.body)
    ]
    items = [
        VideoItem(
            generation_id=item.source,
            url=item.url,
            frame_index=item.frame_index,
            source_start_frame=item.start,
            source_end_frame=item.end,
        )
        for item in plans.items(entry.body, entry.sources)
    ]
    parts: dict[str, Any] = {"beats": None, "actions": beats or None, "inpaint_items": items or None}
    parts |= {"plan": _plan(entry.body, entry.sources, entry.adjusted)}
    return parts if entry.body.get("prompt") or not beats else parts | {"prompt": None}  # the beats are in `actions`


def _plan(
    body: plans.Body, sources: Sequence[str], adjusted: Iterable[Adjustment], left_open: Iterable[str] = ()
) -> str | None:
    """Return the plan as text. It has the length that is sent, and none if the upstream chooses it (`left_open`)."""
    sent_body = {name: value for name, value in body.items() if name not in left_open}
    n_frames = sent_frames(adjusted)
    return plans.plan(sent_body if n_frames is None else sent_body | {"n_frames": n_frames}, sources)


def _address(entry: Entry, generation: Generation) -> str | None:
    """Return a variant's web address; a path is relative to the gateway's. None if it cannot be opened from outside."""
    url = generation.url
    if url is None or not url.startswith("/"):
        return url
    return None if entry.account.address == IN_PROCESS else f"{entry.account.address}{url}"


def advice(entry: Entry, dialect: Dialect) -> tuple[Advice, ...]:
    """Return what to do about a video now, at a gateway with this dialect."""
    more = (MoreIds(tuple(entry.other_ids)),) if entry.other_ids else ()
    if entry.state in UNDER_WAY:
        is_known = not entry.gateway_state or dialect.knows_state(entry.gateway_state)
        return *more, *(() if is_known else (UnknownState(),)), Wait(entry.id)
    if entry.state == "sending":
        return *more, CheckAgain(entry.id, after_s=60, paid=True)
    if entry.state == "unknown":
        return *more, Settle((entry.request_id,)), Do("Do not submit it again blindly.")
    if entry.state == "rejected" and entry.settled_at is not None:
        return *more, SettledAsNotRun(entry.request_id)
    if entry.state != "succeeded":
        return *more, Revise(entry.state)
    if not any(generation.url for generation in entry.generations):
        return *more, TellUser("the gateway says that it succeeded but gave no address for it")
    is_local = any(generation.url.startswith("file:") for generation in entry.generations if generation.url)
    return *more, *((ON_THIS_MACHINE,) if is_local else ()), UseVideo(entry.id, dialect.capabilities.can("remix"))


ON_THIS_MACHINE = Do("Its address is a file on this machine, not a web address.")


def _after_dry_run(gateway: str) -> tuple[Advice, ...]:
    return (Submit(),) if gateway != NOT_CONFIGURED else (Configure(), Submit())


def listed(entry: Entry, age_s: float | None = None) -> ListedVideo:
    """Return one item of a list, with a shortened prompt. `age_s`: seconds since its creation, if it is under way."""
    return ListedVideo(**summary(entry), age_seconds=None if age_s is None else round(age_s))


def damaged_advice(damaged: Sequence[str]) -> tuple[Advice, ...]:
    """Return advice about the rows that a list omits because they are damaged."""
    if not damaged:
        return ()
    names, more = ", ".join(damaged[:MAX_NAMED]), len(damaged) - MAX_NAMED
    rows = f"row {names} is" if len(damaged) == 1 else f"rows {names}{f' and {more} more' if more > 0 else ''} are"
    text = f"the ledger's {rows} damaged and left out here: somebody else has changed the ledger"
    return (TellUser(text),)


def submission(
    request: VideoRequest,
    gateway: str,
    outcome: Outcome,
    entry: Entry | None = None,
    *,
    estimate: Estimate | None,
    sources: Sequence[str] = (),
    plan: Plan,
    dialect: Dialect,
    is_new: bool = True,
) -> Submission:
    """Return the result of a paid call; `is_new`: it was sent now, and is not the original of a duplicate."""
    body = request.body()
    shape = {name: getattr(request, name) for name in ("width", "height", "n_frames") if name not in plan.left_open}
    if "width" not in shape:
        shape |= sent_size(plan.adjusted)
    return Submission(
        outcome=outcome,
        duplicate=None if is_new else True,
        gateway=gateway,
        task_id=entry.task_id if entry else None,
        request_id=entry.request_id if entry else None,
        **shape,
        adjusted=adjusted(entry.adjusted if entry else plan.adjusted),
        cost=None if estimate is None else estimate.cost.amount,
        unit=None if estimate is None else estimate.cost.currency,
        estimate=None if estimate is None else estimate.formula or None,
        sources=entry.sources if entry else list(sources),
        plan=_plan(body, sources, entry.adjusted if entry else plan.adjusted, plan.left_open),
        amount=plans.amount(body),
        operation=None if request.operation == "remix" and plan.left_open else request.operation,  # no amount is sent
        advice=advice(entry, dialect) if entry else _after_dry_run(gateway),
    )


def adjusted(adjustments: Iterable[Adjustment]) -> list[Adjusted] | None:
    """Return what was sent instead of what was requested; None if nothing was adjusted."""
    return [{"field": each.field, "asked": each.asked, "sent": each.sent} for each in adjustments] or None


def not_settled_reason(request_id: str, entry: Entry | None, task_id: str | None = None) -> str:
    """Return why a person's statement that a request became this task, or none, was not recorded."""
    if entry is None:
        return f"No request {request_id} was made at this gateway."
    if entry.state == "sending":
        return f"{request_id} is still being sent: there is nothing to settle yet."
    is_settled_as_not_run = entry.state == "rejected" and entry.settled_at is not None
    if entry.state == "unknown" or (is_settled_as_not_run and task_id is not None):
        return "That task belongs to another request."
    if is_settled_as_not_run:
        return f"{request_id} is already recorded as not having run."
    return f"{request_id} {describe_state(entry.state)}, so there is nothing to settle."


def candidates(listed: Sequence[ListedTask]) -> Do:
    """Return advice on the tasks an unknown request may have become; their prompts are untrusted: quoted as data."""
    named = [
        f'{task.task_id} ("{clean(task.prompt, 60).replace(chr(34), chr(39))}", {task.state})'
        for task in listed
        if is_plain_id(task.task_id)
    ][:MAX_NAMED]
    if not listed:
        return Do("The gateway lists no other task from that time.")
    count, pronoun = ("1 task", "that one") if len(listed) == 1 else (f"{len(listed)} tasks", "one of them")
    names = f": {', '.join(named)}" if named else ""
    return Do(
        f"The gateway lists {count} from about that time that belong to no other request{names}. It may be {pronoun}."
    )


def question(request: VideoRequest, gateway: str, cost: Cost | None, settles: Sequence[str] = (), *, plan: Plan) -> str:
    """Return the question to the user before an expensive request, or one that repeats earlier requests with an unknown
    outcome (`settles`)."""
    size = f"{request.width}x{request.height}" if "width" not in plan.left_open else ""
    length = f"{request.n_frames / FPS:g} s" if "n_frames" not in plan.left_open else ""
    times = f"{request.n_variants} x {size}".strip() if request.n_variants > 1 else size
    details = ", ".join(part for part in (verb_of(request.operation), times, length) if part)
    proposal = f"Make this video ({details}) at {gateway} for {describe_cost(cost)}?"
    if not settles:
        return proposal
    names = ", ".join(settles[:MAX_NAMED]) + (f" and {len(settles) - MAX_NAMED} more" * (len(settles) > MAX_NAMED))
    return (
        f"The same video was requested before, and its outcome is unknown ({names}): it may have been made and "
        "charged. Say yes only if the gateway's own log shows that it did not run; your answer is then recorded, too. "
        f"{proposal}"
    )
