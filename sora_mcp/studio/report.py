"""Rows of the ledger, told to the world."""

from __future__ import annotations

from sora_mcp.core.errors import Outcome, SoraError
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.records import summary
from sora_mcp.core.results import ListedVideo, Submission, Variant, Video
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import UNDER_WAY, State, is_plain_id
from sora_mcp.dialects.sora import state_of
from sora_mcp.ledger import Entry
from sora_mcp.studio.connector import NOT_CONFIGURED

_NEXT_STEPS: dict[State, str] = {
    "sending": "It is still being sent: call get_video with this id in a minute. Do not submit it again.",
    "submitted": "Call get_video with wait_seconds 50 until it has succeeded; that is free.",
    "queued": "Call get_video with wait_seconds 50 again; that is free.",
    "running": "Call get_video with wait_seconds 50 again; that is free.",
    "succeeded": "Look at it with view_video, keep it with download_video (addresses may expire), or remix it.",
    "failed": "Change the prompt or the arguments before creating it again: that costs again.",
    "blocked": "Moderation withheld it. Change the prompt before creating it again: that costs again.",
    "rejected": "Nothing was created; failure_reason says why. Mend that, then create it again.",
    "unknown": "A video may exist and have been charged. Tell the user, who can look at the gateway's log and then run "
    "sora-mcp settle; do not submit it again blindly.",
}


_AFTER_DRY_RUN = {
    True: "Call again without dry_run to submit it.",
    False: "It can be submitted once SORA_BASE_URL and SORA_API_KEY are set.",
}


def video(entry: Entry, gateway: str, trouble: SoraError | None = None) -> Video:
    """Everything known about one video. `trouble`: why the gateway could not be asked about it just now."""
    columns = summary(entry, 2000)  # which looks whether the row can be read
    n_variants = entry.body.get("n_variants")
    next_step = _next_step(entry)
    if trouble is not None:
        next_step = f"This is what was known before. {trouble.message} That says nothing about the video. {next_step}"
    return Video(
        **columns,
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
        withheld=entry.withheld if entry.state == "succeeded" else None,
        generations=[Variant(variant=g.variant, generation_id=g.generation_id, url=g.url) for g in entry.generations],
        files=[str(file) for _, file in sorted(entry.files.items())],
        next_step=next_step,
    )


def _next_step(entry: Entry) -> str:
    next_step = _NEXT_STEPS[entry.state]
    if entry.state == "succeeded" and not any(g.url for g in entry.generations):
        next_step = "The gateway says that it succeeded but gave no address for it: tell the user."
    if entry.state in UNDER_WAY and entry.gateway_state and state_of(entry.gateway_state) is None:
        next_step = f"Its gateway_state is a word that is not known here, so it counts as running. {next_step}"
    return f"{_more_ids(entry)}{next_step}"


def _more_ids(entry: Entry) -> str:
    """What is said of an answer that named several tasks."""
    if not entry.other_ids:
        return ""
    count = len(entry.other_ids)
    ids = f"{count} more id{'' if count == 1 else 's'}"
    if count <= MOST_NAMED and all(map(is_plain_id, entry.other_ids)):
        ids += f" ({', '.join(entry.other_ids)})"
    return f"The gateway named {ids} in its answer: tell the user. "


MOST_NAMED = 3
"""Further ids that stand in a sentence; more are in the result only."""


def listed(entry: Entry) -> ListedVideo:
    """One line of a list; the prompt is shortened."""
    return ListedVideo(**summary(entry))


def submission(
    request: VideoRequest,
    gateway: str,
    outcome: Outcome,
    entry: Entry | None = None,
    *,
    cost: float | None,
    is_new: bool = True,
) -> Submission:
    """What became of one paid call; `is_new`: it was sent now, and is not the first one of a duplicate."""
    return Submission(
        outcome=outcome,
        duplicate=None if is_new else True,
        gateway=gateway,
        task_id=entry.task_id if entry else None,
        request_id=entry.request_id if entry else None,
        width=request.width,
        height=request.height,
        n_frames=request.n_frames,
        cost=cost,
        sources=entry.sources if entry else [],
        next_step=f"{_more_ids(entry)}{_NEXT_STEPS[entry.state]}"
        if entry
        else _AFTER_DRY_RUN[gateway != NOT_CONFIGURED],
    )


def not_settled(request_id: str, entry: Entry | None) -> str:
    """Why a person's word about a request changed nothing."""
    if entry is None:
        return f"No request {request_id} was made at this gateway."
    if entry.state == "sending":
        return f"{request_id} is still being sent: there is nothing to settle yet."
    if entry.state == "unknown":
        return "That task belongs to another request."
    return f"{request_id} is {entry.state}: only an unknown outcome can be settled."


def question(request: VideoRequest, gateway: str, cost: float | None) -> str:
    """What the user is asked before something dear is submitted."""
    price = "an unknown relative cost" if cost is None else f"a relative cost of {cost:g}"
    what = f"{request.n_variants} x " if request.n_variants > 1 else ""
    what += f"{request.width}x{request.height}, {request.n_frames / FPS:g} s"
    return f"Make this video ({request.operation}, {what}) at {gateway} for {price}?"
