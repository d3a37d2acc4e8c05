"""Notes on what a paid call would meet, or has met: a duplicate, a cap, a question, an earlier refusal."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from sora_mcp.core.advice import Note, WouldBeRefused, WouldRepeat
from sora_mcp.core.caps import TooManyRunning
from sora_mcp.core.errors import SoraError
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tasks import quoted_at_end
from sora_mcp.dialects.protocol import Need, Picture
from sora_mcp.ledger import Entry
from sora_mcp.studio.sources import Resolved, name_of

_MINUTE_S, _HOUR_S = 60, 3600


def duplicate(entry: Entry) -> Note:
    """Return the note that a dry run duplicates this request."""
    return WouldRepeat(entry.id, entry.state)


def refusal(error: SoraError) -> Note:
    """Return the note why the real call would be refused."""
    return WouldBeRefused(error.parts, error.advice, is_temporary=isinstance(error, TooManyRunning))


def no_board(error: SoraError) -> str:
    """Return the note why there is no picture of a plan."""
    return f"The plan is not drawn: {error.message}"


def question(text: str) -> str:
    """Return the note of the question that the user would get."""
    return f'A real call would ask first: "{text}"'


def refused_before(entry: Entry, now: float) -> str:
    """Return the note that the same request was refused or failed before, with the gateway's reason in quotes."""
    if entry.settled_at is not None and entry.state == "rejected":
        return f"A person said {_ago(now - entry.settled_at)} that the same request did not run ({entry.request_id})."
    verb = {"rejected": "was refused", "blocked": "was blocked by moderation"}.get(entry.state, "failed")
    reason = entry.gateway_message or entry.failure_reason
    text = f"The same request {verb} {_ago(now - entry.updated_at)}"
    return f"{text}: {quoted_at_end(reason)}" if reason else f"{text}; no reason was given."


def amount_notes(request: VideoRequest) -> Iterator[str]:
    """Yield how much a remix changes its source."""
    if request.operation != "remix":
        return
    amount = request.sdedit.amount if request.sdedit is not None else None
    if amount is not None:
        yield f"Amount {amount:g} on a scale of 1 to 8: lower stays closer to the source, higher changes more."
    else:
        yield "No amount is set, so the gateway decides: 1 would stay closest to the source, 8 would change most."


def source_notes(ready: Resolved) -> Iterator[str]:
    """Yield what happens to the sources."""
    for i, image in ready.images.items():
        yield from (f"inpaint_items[{i}].url: {note}." for note in image.notes)
    request, size = ready.request, ready.source_size
    if size is not None and "width" not in ready.plan.left_open and request.width * size[1] != request.height * size[0]:
        yield (
            f"The source is {size[0]}x{size[1]}, and this request is for {request.width}x{request.height}: "
            "the shape differs, so the gateway has to crop or pad the picture."
        )


def need_notes(ready: Resolved) -> Iterator[str]:
    """Yield what a real call would first fetch of earlier videos."""
    for need in ready.plan.needs:
        entry, generation = ready.videos[need.item]
        name, path = name_of(entry, generation), entry.files.get(generation.variant)
        if need.kind == "address":
            yield f"A real call first asks the gateway for the address of {name}."
        else:
            part = "the file" if need.kind == "file" else _frame_name(need)
            action = "takes" if path is not None and path.is_file() else "fetches the video and takes"
            yield f"A real call first {action} {part} of {name}, and sends it along."


def named_pictures(request: VideoRequest) -> dict[int, Picture]:
    """Return the images of a request under the caller's names, to show what would be sent."""
    return {i: Picture(item.url, b"", "") for i, item in enumerate(request.inpaint_items) if item.url is not None}


def needed_pictures(ready: Resolved) -> dict[int, Picture]:
    """Return placeholders for the frames needed of earlier videos, named by what they show."""
    return {
        need.item: Picture(f"{_frame_name(need)} of {name_of(*ready.videos[need.item])}", b"", "")
        for need in ready.plan.needs
        if need.item is not None
    }


def _frame_name(need: Need) -> str:
    return {None: "the last frame", 0: "the first frame"}.get(need.frame, f"frame {need.frame}")


def _ago(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return "less than a minute ago"
    amount, unit = (seconds // _MINUTE_S, "minute") if seconds < _HOUR_S else (seconds // _HOUR_S, "hour")
    return f"{amount:.0f} {unit}{'s' * (amount != 1)} ago"


MAX_NAMED_MODELS = 8


def format_models(model: str, available: list[str]) -> str:
    """Return the known models as text, those with names similar to the unknown one first."""
    similar = difflib.get_close_matches(model, available, n=MAX_NAMED_MODELS, cutoff=0.5)
    names = [*similar, *(each for each in available if each not in similar)]
    suffix = f" and {len(names) - MAX_NAMED_MODELS} more" if len(names) > MAX_NAMED_MODELS else ""
    return ", ".join(names[:MAX_NAMED_MODELS]) + suffix
