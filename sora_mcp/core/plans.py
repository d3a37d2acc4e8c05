"""What a request asked for, read from its documented body, and a text that describes its plan.

Bodies also come from the ledger: an earlier release, or a gateway that repeats only a part, may have left anything out.
What cannot be read is left out here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import clean

Body = Mapping[str, Any]
"""A request in the documented form."""

_MAX_BEATS = 12
"""Beats that the text of a plan names."""
_MAX_DESCRIPTION_LENGTH = 60
"""Characters of each beat's description in the text of a plan."""
_MAX_TOTAL_LENGTH = 4000
"""Characters of all descriptions together, in the full request."""
_MIN_DESCRIPTION_LENGTH = 40
"""Characters that each description keeps, however many there are."""
_MAX_URL_LENGTH = 2000
"""Characters of the address of an image."""


class Beat(Struct, frozen=True):
    """One action of a storyboard: the frame at which it begins, and what is seen from there on."""

    frame: int
    description: str


class Item(Struct, frozen=True):
    """An image or a video that a request builds on. One of `source` (an id to show) and `url` is set.

    It is placed at `frame_index`. Of a video, the frames from `start` to `end` are used, both inclusive.
    """

    source: str | None = None
    url: str | None = None
    frame_index: int | None = None
    start: int | None = None
    end: int | None = None


def beats(body: Body) -> list[Beat]:
    """Return the beats of a storyboard, with full descriptions."""
    actions = [each for each in _list(body, "actions") if isinstance(each, dict)]
    return [
        Beat(frame, text)
        for each in actions
        if (frame := _frame(each, "time")) is not None and isinstance(text := each.get("description"), str)
    ]


def shortened_beats(body: Body) -> list[Beat]:
    """Return the beats of a storyboard, with descriptions shortened to a bounded total length."""
    whole = beats(body)
    if sum(len(beat.description) for beat in whole) <= _MAX_TOTAL_LENGTH:
        return [Beat(beat.frame, clean(beat.description, _MAX_TOTAL_LENGTH)) for beat in whole]
    limit = max(_MIN_DESCRIPTION_LENGTH, _MAX_TOTAL_LENGTH // len(whole))
    return [Beat(beat.frame, clean(beat.description, limit)) for beat in whole]


def amount(body: Body) -> float | None:
    """Return how much a remix may change, from 1 (least) to 8 (most), or None if that is left to the gateway."""
    edit = body.get("sdedit")
    value = edit.get("amount") if isinstance(edit, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value < _FRAME_LIMIT else None


def sources(body: Body) -> list[str]:
    """Return the gateway's ids of what a video was made from, for a request without other known sources."""
    edit = body.get("sdedit")
    ids = [_id(edit, "source_")] if isinstance(edit, dict) else []
    ids += [_id(each, "") for each in _list(body, "inpaint_items") if isinstance(each, dict)]
    return [clean(each, 300) for each in ids if each is not None]


def items(body: Body, sources: Sequence[str]) -> list[Item]:
    """Return what a request builds on, except the source of a remix. `sources`: the ids to show, in that order."""
    ids = list(sources)
    if isinstance(edit := body.get("sdedit"), dict) and _id(edit, "source_") is not None:
        ids = ids[1:]
    matches = []
    for each in _list(body, "inpaint_items"):
        if not isinstance(each, dict):
            continue
        source, url = _id(each, ""), each.get("url")
        if source is not None and ids:
            source = ids.pop(0)
        address = clean(url, _MAX_URL_LENGTH) if source is None and isinstance(url, str) else None
        if not source and not address:
            continue
        names = ("frame_index", "source_start_frame", "source_end_frame")
        matches.append(Item(source, address, *(_frame(each, name) for name in names)))
    return matches


def plan(body: Body, sources: Sequence[str] = ()) -> str | None:
    """Describe what comes when: the beats and cards of a storyboard, or the parts of a blend. Otherwise None."""
    match body.get("operation"):
        case "storyboard":
            parts = [*_describe_beats(body), *_describe_cards(body, sources)]
        case "blend":
            joined = items(body, sources)
            has_ranges = any(each.start is not None or each.end is not None for each in joined)
            parts = [_describe_source(each) for each in joined] if has_ranges else []
        case _:
            return None
    more = [f"{len(parts) - _MAX_BEATS} more"] if len(parts) > _MAX_BEATS else []
    return " · ".join([*parts[:_MAX_BEATS], *more]) or None


def _describe_beats(body: Body) -> Iterator[str]:
    all_beats, end = beats(body), _frame(body, "n_frames")
    ends: list[int | None] = [*(beat.frame for beat in all_beats[1:]), end]
    for beat, beat_end in zip(all_beats, ends, strict=False):
        yield f"{_span(beat.frame, beat_end)} {clean(beat.description, _MAX_DESCRIPTION_LENGTH)}"


def _describe_cards(body: Body, sources: Sequence[str]) -> Iterator[str]:
    for each in items(body, sources):
        at = f"at {_seconds(each.frame_index)} s" if each.frame_index is not None else "somewhere"
        yield f"{at} {_describe_source(each)}"


def _describe_source(item: Item) -> str:
    label = "an image" if item.source is None else clean(item.source, _MAX_DESCRIPTION_LENGTH)
    if item.start is None and item.end is None:
        return label
    return f"{label} {_span(item.start or 0, None if item.end is None else item.end + 1)}"


def _span(start: int, end: int | None) -> str:
    """Format a range of frames in seconds; `end` is exclusive."""
    return f"from {_seconds(start)} s" if end is None else f"{_seconds(start)}–{_seconds(end)} s"


def _seconds(frames: int) -> str:
    return f"{frames / FPS:.1f}"


def prompt_matcher(text: str) -> Callable[[Body], bool]:
    """Return a predicate: whether the prompt or a beat's description contains `text`, ignoring case and spacing."""
    wanted = _normalize(text)

    def mentions(body: Body) -> bool:
        prompt = body.get("prompt")
        texts = [prompt] if isinstance(prompt, str) else []
        return any(wanted in _normalize(each) for each in (*texts, *(beat.description for beat in beats(body))))

    return mentions


_DOTTED_I = "i\u0307"
"""The lower case of `İ`: a search for it is written with a plain `i`."""


def _normalize(text: str) -> str:
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(plain.lower().replace(_DOTTED_I, "i").split())


def _list(body: Body, name: str) -> list[Any]:
    value = body.get(name)
    return value if isinstance(value, list) else []


def _id(fields: Body, prefix: str) -> str | None:
    ids = (fields.get(f"{prefix}generation_id"), fields.get(f"{prefix}upload_media_id"))
    return next((each for each in ids if isinstance(each, str) and each), None)


_FRAME_LIMIT = 10**9
"""Frame numbers of every video are below this."""


def _frame(fields: Body, name: str) -> int | None:
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _FRAME_LIMIT else None
