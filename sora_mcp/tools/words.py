"""Results in a sentence: what became of it, and what to do next. Only words of ours."""

from __future__ import annotations

from sora_mcp.errors import SUBMITTED
from sora_mcp.results import Download, ListedVideo, Look, Submission, Video, VideoList
from sora_mcp.tables import FPS
from sora_mcp.tasks import State


def name(video: ListedVideo | Submission) -> str:
    """The id to show: the task's where there is one, else our own."""
    return video.task_id or video.request_id or "it"


def _shape(width: int | None, height: int | None, n_frames: int | None) -> str:
    size = f"{width}x{height}" if width and height else ""
    length = f"{n_frames / FPS:g} s" if n_frames else ""
    return ", ".join(part for part in (size, length) if part)


def say_submission(told: Submission) -> str:
    """What became of a paid call."""
    cost = f"relative cost {told.cost:g}" if told.cost is not None else "cost not known"
    what = f"{_shape(told.width, told.height, told.n_frames)}, {cost}, gateway: {told.gateway}"
    if told.outcome == "not_submitted":
        return " ".join([f"Dry run ({what}).", SUBMITTED["not_submitted"], *told.notes, told.next_step])
    if told.duplicate:
        return (
            f"This same request was submitted before as {name(told)}; nothing was sent or charged now "
            f"(allow_duplicate pays for another). {told.next_step}"
        )
    return " ".join([f"Submitted as {name(told)} ({what}).", *told.notes, told.next_step])


_STATE_WORDS: dict[State, str] = {
    "succeeded": "has succeeded",
    "failed": "has failed",
    "blocked": "was blocked by moderation",
    "rejected": "was not created",
    "unknown": "has an unknown outcome",
}


def say_video(told: Video) -> str:
    """A video in a sentence, and what to do next."""
    progress = f" ({told.progress} %)" if told.progress is not None and told.state == "running" else ""
    shape = _shape(told.width, told.height, told.n_frames)
    state = _STATE_WORDS.get(told.state, f"is {told.state}")
    return f"{name(told)} {state}{progress}{f', {shape}' if shape else ''}. {told.next_step}"


def say_list(told: VideoList) -> str:
    """How many there are."""
    count = len(told.videos)
    more = " There are more: call again with cursor." if told.next_cursor else ""
    return f"{count} video{'' if count == 1 else 's'} at {told.gateway}, newest first.{more}"


def say_look(told: Look) -> str:
    """What the picture shows."""
    shape = _shape(told.width, told.height, told.n_frames)
    return f"{told.frames} stills of {told.task_id}, variant {told.variant} ({shape}), in reading order."


def say_download(told: Download) -> str:
    """Where the file is."""
    verb = "Saved as" if told.outcome == "saved" else "Already saved as"
    return f"{verb} {told.path} ({told.bytes / 1e6:.1f} MB)."
