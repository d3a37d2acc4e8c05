"""What a request asked for, read off its documented body, and its plan in words.

Bodies come from the ledger, too: an earlier release, or a gateway that repeats only a part, may have left anything out.
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

_MOST_BEATS = 12
"""Beats that a plan in words names."""
_WORDS = 60
"""Characters of each of them."""
_TEXT_IN_ALL = 4000
"""Characters of all descriptions together, where a request is told in full; each keeps some, however many there are."""
_TEXT_OF_EACH = 40
_ADDRESS = 2000
"""Characters of the address of an image."""


class Beat(Struct, frozen=True):
    """One action of a storyboard: the frame at which it begins, and what is seen from there on."""

    frame: int
    description: str


class Item(Struct, frozen=True):
    """An image or a video that a request builds on. One of `source` (an id to show) and `url` is set.

    It stands at `frame_index`; of a video the frames from `start` to `end` are used, both included.
    """

    source: str | None = None
    url: str | None = None
    frame_index: int | None = None
    start: int | None = None
    end: int | None = None


def beats(body: Body) -> list[Beat]:
    """The beats of a storyboard, whole."""
    actions = [each for each in _list(body, "actions") if isinstance(each, dict)]
    return [
        Beat(frame, text)
        for each in actions
        if (frame := _frame(each, "time")) is not None and isinstance(text := each.get("description"), str)
    ]


def told_beats(body: Body) -> list[Beat]:
    """The beats as they are shown in full: together of bounded length."""
    whole = beats(body)
    if sum(len(beat.description) for beat in whole) <= _TEXT_IN_ALL:
        return [Beat(beat.frame, clean(beat.description, _TEXT_IN_ALL)) for beat in whole]
    most = max(_TEXT_OF_EACH, _TEXT_IN_ALL // len(whole))
    return [Beat(beat.frame, clean(beat.description, most)) for beat in whole]


def amount(body: Body) -> float | None:
    """How much a remix may change: 1 (least) to 8 (most). None where that is left to the gateway."""
    edit = body.get("sdedit")
    value = edit.get("amount") if isinstance(edit, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value < _FAR else None


def sources(body: Body) -> list[str]:
    """The gateway's ids of what it was made from, for a request of which no others are known."""
    edit = body.get("sdedit")
    ids = [_id(edit, "source_")] if isinstance(edit, dict) else []
    ids += [_id(each, "") for each in _list(body, "inpaint_items") if isinstance(each, dict)]
    return [clean(each, 300) for each in ids if each is not None]


def items(body: Body, sources: Sequence[str]) -> list[Item]:
    """What it builds on besides the source of a remix; `sources` are the ids to show, in the order of the body."""
    ids = list(sources)
    if isinstance(edit := body.get("sdedit"), dict) and _id(edit, "source_") is not None:
        ids = ids[1:]
    made = []
    for each in _list(body, "inpaint_items"):
        if not isinstance(each, dict):
            continue
        source, url = _id(each, ""), each.get("url")
        if source is not None and ids:
            source = ids.pop(0)
        address = clean(url, _ADDRESS) if source is None and isinstance(url, str) else None
        if not source and not address:
            continue
        names = ("frame_index", "source_start_frame", "source_end_frame")
        made.append(Item(source, address, *(_frame(each, name) for name in names)))
    return made


def plan(body: Body, sources: Sequence[str] = ()) -> str | None:
    """What comes when: the beats and cards of a storyboard, or the parts of what is blended. None for the others."""
    match body.get("operation"):
        case "storyboard":
            parts = [*_beat_words(body), *_card_words(body, sources)]
        case "blend":
            joined = items(body, sources)
            has_ranges = any(each.start is not None or each.end is not None for each in joined)
            parts = [_source_words(each) for each in joined] if has_ranges else []
        case _:
            return None
    more = [f"{len(parts) - _MOST_BEATS} more"] if len(parts) > _MOST_BEATS else []
    return " · ".join([*parts[:_MOST_BEATS], *more]) or None


def _beat_words(body: Body) -> Iterator[str]:
    all_beats, end = beats(body), _frame(body, "n_frames")
    ends: list[int | None] = [*(beat.frame for beat in all_beats[1:]), end]
    for beat, until in zip(all_beats, ends, strict=False):
        yield f"{_span(beat.frame, until)} {clean(beat.description, _WORDS)}"


def _card_words(body: Body, sources: Sequence[str]) -> Iterator[str]:
    for each in items(body, sources):
        at = f"at {_seconds(each.frame_index)} s" if each.frame_index is not None else "somewhere"
        yield f"{at} {_source_words(each)}"


def _source_words(item: Item) -> str:
    what = "an image" if item.source is None else clean(item.source, _WORDS)
    if item.start is None and item.end is None:
        return what
    return f"{what} {_span(item.start or 0, None if item.end is None else item.end + 1)}"


def _span(start: int, end: int | None) -> str:
    """Frames as seconds; the last is not included."""
    return f"from {_seconds(start)} s" if end is None else f"{_seconds(start)}–{_seconds(end)} s"


def _seconds(frames: int) -> str:
    return f"{frames / FPS:.1f}"


def search_for(text: str) -> Callable[[Body], bool]:
    """Tells whether the prompt or the description of a beat holds `text`: as it is written, but for case and spaces."""
    wanted = _folded(text)

    def mentions(body: Body) -> bool:
        prompt = body.get("prompt")
        texts = [prompt] if isinstance(prompt, str) else []
        return any(wanted in _folded(each) for each in (*texts, *(beat.description for beat in beats(body))))

    return mentions


_DOTTED = "i\u0307"
"""What `İ` is in lower case: whoever looks for it writes an `i`."""


def _folded(text: str) -> str:
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(plain.lower().replace(_DOTTED, "i").split())


def _list(body: Body, name: str) -> list[Any]:
    value = body.get(name)
    return value if isinstance(value, list) else []


def _id(fields: Body, prefix: str) -> str | None:
    ids = (fields.get(f"{prefix}generation_id"), fields.get(f"{prefix}upload_media_id"))
    return next((each for each in ids if isinstance(each, str) and each), None)


_FAR = 10**9
"""Frames that no video has."""


def _frame(fields: Body, name: str) -> int | None:
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _FAR else None
