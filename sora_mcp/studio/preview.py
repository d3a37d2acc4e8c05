"""What else a paid call would meet, or has met, in sentences: a duplicate, a cap, a question, an earlier refusal."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from sora_mcp.core.advice import Note, WouldBeRefused, WouldRepeat
from sora_mcp.core.caps import TooManyRunning
from sora_mcp.core.errors import SoraError
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tasks import quotation
from sora_mcp.dialects.protocol import Need, Picture
from sora_mcp.ledger import Entry
from sora_mcp.studio.sources import Resolved, name_of

_MINUTE_S, _HOUR_S = 60, 3600


def duplicate(entry: Entry) -> Note:
    """Of which request a dry run is a duplicate."""
    return WouldRepeat(entry.id, entry.state)


def refusal(error: SoraError) -> Note:
    """Why the real call of a dry run would be refused."""
    return WouldBeRefused(error.parts, error.advice, will_pass=isinstance(error, TooManyRunning))


def no_board(error: SoraError) -> str:
    """Why there is no picture of a plan."""
    return f"The plan is not drawn: {error.message}"


def question(words: str) -> str:
    """What the user would be asked."""
    return f'A real call would ask first: "{words}"'


def refused_before(entry: Entry, now: float) -> str:
    """That the same request came to nothing before; the gateway's reason stands in quotes."""
    if entry.settled_at is not None and entry.state == "rejected":
        return f"A person said {_ago(now - entry.settled_at)} that the same request did not run ({entry.request_id})."
    what = {"rejected": "was refused", "blocked": "was blocked by moderation"}.get(entry.state, "failed")
    reason = entry.gateway_message or entry.failure_reason
    words = f"The same request {what} {_ago(now - entry.updated_at)}"
    return f"{words}: {quotation(reason)}" if reason else f"{words}; no reason was given."


def of_amount(request: VideoRequest) -> Iterator[str]:
    """How much a remix changes."""
    if request.operation != "remix":
        return
    amount = request.sdedit.amount if request.sdedit is not None else None
    if amount is not None:
        yield f"Amount {amount:g} of 1 to 8: a lower one stays closer to the source, a higher one changes more."
    else:
        yield "No amount is set, so the gateway decides: 1 would stay closest to the source, 8 would change most."


def of_sources(ready: Resolved) -> Iterator[str]:
    """What becomes of the sources."""
    for i, image in ready.images.items():
        yield from (f"inpaint_items[{i}].url: {note}." for note in image.notes)
    request, size = ready.request, ready.source_size
    if size is not None and "width" not in ready.plan.left_open and request.width * size[1] != request.height * size[0]:
        yield (
            f"The source is {size[0]}x{size[1]} and this asks for {request.width}x{request.height}: "
            "another format, so the gateway has to crop or fill the picture."
        )


def of_needs(ready: Resolved) -> Iterator[str]:
    """What a real call would get first of earlier videos."""
    for need in ready.plan.needs:
        entry, generation = ready.videos[need.item]
        name, path = name_of(entry, generation), entry.files.get(generation.variant)
        if need.kind == "address":
            yield f"A real call first asks the gateway for the address of {name}."
        else:
            what = "the file" if need.kind == "file" else _which(need)
            first = "takes" if path is not None and path.is_file() else "fetches the video and takes"
            yield f"A real call first {first} {what} of {name}, and sends it along."


def pictures_named(request: VideoRequest) -> dict[int, Picture]:
    """The images of a request by the names that the caller has for them, to show what would be sent."""
    return {i: Picture(item.url, b"", "") for i, item in enumerate(request.inpaint_items) if item.url is not None}


def pictures_needed(ready: Resolved) -> dict[int, Picture]:
    """The pictures that are needed of earlier videos, by words for what they are of."""
    return {
        need.item: Picture(f"{_which(need)} of {name_of(*ready.videos[need.item])}", b"", "")
        for need in ready.plan.needs
        if need.item is not None
    }


def _which(need: Need) -> str:
    return {None: "the last frame", 0: "the first frame"}.get(need.frame, f"frame {need.frame}")


def _ago(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return "less than a minute ago"
    amount, unit = (seconds // _MINUTE_S, "minute") if seconds < _HOUR_S else (seconds // _HOUR_S, "hour")
    return f"{amount:.0f} {unit}{'s' * (amount != 1)} ago"


MODELS_NAMED = 8


def listed(model: str, known: list[str]) -> str:
    """The models that there are, those first that look like the one that there is not."""
    near = difflib.get_close_matches(model, known, n=MODELS_NAMED, cutoff=0.5)
    names = [*near, *(each for each in known if each not in near)]
    more = f" and {len(names) - MODELS_NAMED} more" if len(names) > MODELS_NAMED else ""
    return ", ".join(names[:MODELS_NAMED]) + more
