"""Size and length in a model's words: what is sent for them, what that changes, and the nearest that is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from sora_mcp.core.capabilities import LEFT_OPEN, NOT_GIVEN, Adjustment, ModelOffer
from sora_mcp.core.errors import Problem
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tables import FPS
from sora_mcp.dialects.shots import LEAST_S

Size = tuple[int, int]

_ASPECT_RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21")
"""What OpenRouter documents, for models that list none."""
_SHORT_SIDES = {"1k": 1024, "2k": 1440, "4k": 2160}
_RESOLUTIONS = ("360p", "480p", "540p", "720p", "768p", "1080p", "1440p", "2160p")
_ALIKE = 0.01
"""So much two ratios may differ and count as one: 854x480 is 16:9."""
MOST_SHOWN = 12
"""So many allowed values stand in a refusal, the nearest first."""


class Shape(Struct, frozen=True):
    """What is sent for size and length; `size` and `seconds` are what that makes, None where the upstream chooses.
    `left_open`: what nobody asked for and is not our default either, by our names."""

    fields: dict[str, Any]
    adjusted: tuple[Adjustment, ...]
    size: Size | None
    seconds: int | None
    left_open: frozenset[str]


def shape_of(request: VideoRequest, offer: ModelOffer) -> Shape:
    """What becomes of size and length in a request without `problems`: what was given goes as it is, and our default
    as the nearest that the model takes."""
    size_fields, size, of_size = _size(request, offer)
    seconds, of_length = _length(request, offer)
    duration = {} if seconds is None else {"duration": seconds}
    left_open = ("width", "height") * bool(of_size and not _has_size(request))
    left_open += ("n_frames",) * bool(of_length)
    return Shape(size_fields | duration, (*of_size, *of_length), size, seconds, frozenset(left_open))


def problems(request: VideoRequest, offer: ModelOffer) -> Iterator[Problem]:
    """What of the size and the length that were asked for the model does not take, with the nearest that it does."""
    size = (request.width, request.height)
    if _has_size(request) and _words_for(size, offer) is None:
        allowed = _shown([_text(each) for each in _by_nearness(size, sizes_of(offer))])
        yield Problem("width, height", f"{_text(size)} is not a size of {offer.id}", allowed or _in_words(offer))
    seconds = request.n_frames / FPS
    if _has_length(request) and not _takes_seconds(seconds, offer):
        lengths = offer.seconds or (max(1, math.floor(seconds)), math.ceil(seconds))
        nearest = sorted(lengths, key=lambda each: (abs(each - seconds), each))
        allowed = _shown([f"{each * FPS} ({each} s)" for each in nearest])
        wrong = f"{request.n_frames} frames ({seconds:.3g} s) is not a length of {offer.id}"
        yield Problem("n_frames", wrong, allowed)


def sizes_of(offer: ModelOffer) -> list[Size]:
    """Every size that the model is known to take: those that it lists, else what its resolutions and ratios make."""
    made = [size for size in _made(offer) if not any(_same(size, each) for each in offer.sizes or ())]
    return [*(offer.sizes or ()), *made]


def _made(offer: ModelOffer) -> Iterator[Size]:
    for resolution in offer.resolutions or ():
        short = _short_side(resolution)
        for ratio in offer.aspect_ratios or _ASPECT_RATIOS:
            if short is not None and (parts := _parts(ratio)) is not None:
                long = round(short * max(parts) / min(parts) / 2) * 2
                yield (long, short) if parts[0] >= parts[1] else (short, long)


def _has_size(request: VideoRequest) -> bool:
    return not request.model_fields_set.isdisjoint({"width", "height"})


def _has_length(request: VideoRequest) -> bool:
    return "n_frames" in request.model_fields_set


def _size(request: VideoRequest, offer: ModelOffer) -> tuple[dict[str, Any], Size | None, tuple[Adjustment, ...]]:
    """The fields of a size, what it makes, and what that changes."""
    size = (request.width, request.height)
    is_asked = _has_size(request)
    if not is_asked and request.operation == "remix":
        return {}, None, (Adjustment("size", NOT_GIVEN, "the source's"),)
    if not is_asked and offer.sizes is None and offer.resolutions is None:
        return _in_open_size(size, offer)
    words = _words_for(size, offer)
    if words is not None:
        sent = " ".join(words.values())
        is_other = bool(offer.sizes) and "size" not in words
        return words, size, (Adjustment("size", _text(size), sent, size=size),) if is_other and is_asked else ()
    nearest = _by_nearness(size, sizes_of(offer))
    if not nearest:  # resolutions that cannot be read
        return {}, None, (Adjustment("size", NOT_GIVEN, LEFT_OPEN),)
    adjusted = Adjustment("size", NOT_GIVEN, _text(nearest[0]), size=nearest[0])
    return _words_for(nearest[0], offer) or {}, nearest[0], (adjusted,)


def _in_open_size(size: Size, offer: ModelOffer) -> tuple[dict[str, Any], Size | None, tuple[Adjustment, ...]]:
    """Of a model that lists no sizes: the ratio of our default, if it lists those, and nothing else."""
    ratios = [each for each in offer.aspect_ratios or () if _parts(each) is not None]
    if not ratios:
        return {}, None, (Adjustment("size", NOT_GIVEN, LEFT_OPEN),)
    ratio = min(ratios, key=lambda each: abs(math.log(_of(each) / (size[0] / size[1]))))
    return {"aspect_ratio": ratio}, None, (Adjustment("size", NOT_GIVEN, f"{ratio}, in {LEFT_OPEN}"),)


def _words_for(size: Size, offer: ModelOffer) -> dict[str, str] | None:
    """What is sent for a size; None for one that the model does not take."""
    if size in (offer.sizes or ()):
        return {"size": _text(size)}
    if offer.resolutions is None and offer.aspect_ratios is None:
        return {"size": _text(size)} if offer.sizes is None else None
    ratio = next((each for each in offer.aspect_ratios or _ASPECT_RATIOS if _has_ratio(size, each)), None)
    resolution = next((each for each in offer.resolutions or _RESOLUTIONS if _short_side(each) == min(size)), None)
    return {"resolution": resolution, "aspect_ratio": ratio} if ratio and resolution else None


def _length(request: VideoRequest, offer: ModelOffer) -> tuple[int | None, tuple[Adjustment, ...]]:
    """The seconds that are sent, and what that changes."""
    seconds = request.n_frames / FPS
    if _has_length(request) or (request.operation != "remix" and offer.seconds and seconds in offer.seconds):
        return int(seconds), ()
    if request.operation == "remix":
        return None, (Adjustment("n_frames", NOT_GIVEN, "the source's, or as the model does"),)
    actions = request.actions or []
    if not offer.seconds:
        return (int(seconds), ()) if actions else (None, (Adjustment("n_frames", NOT_GIVEN, LEFT_OPEN),))
    least = actions[-1].time / FPS + LEAST_S if actions else 0
    lengths = [each for each in offer.seconds if each >= least] or offer.seconds
    nearest = min(lengths, key=lambda each: (abs(each - seconds), each))
    return nearest, (Adjustment("n_frames", NOT_GIVEN, f"{nearest} s", n_frames=nearest * FPS),)


def _takes_seconds(seconds: float, offer: ModelOffer) -> bool:
    return seconds % 1 == 0 and (offer.seconds is None or seconds in offer.seconds)


def _by_nearness(size: Size, sizes: list[Size]) -> list[Size]:
    """The sizes, nearest first: a picture of another shape is farther away than a larger one of the same."""

    def distance(other: Size) -> float:
        of_shape = math.log(other[0] / other[1] * size[1] / size[0])
        return 4 * abs(of_shape) + abs(math.log(other[0] * other[1] / (size[0] * size[1])))

    return sorted(sizes, key=distance)


def _shown(values: list[str]) -> str:
    """Allowed values, of which the first is the nearest."""
    if not values:
        return ""
    more = f" and {len(values) - MOST_SHOWN} more" if len(values) > MOST_SHOWN else ""
    return ", ".join([f"{values[0]} is nearest", *values[1:MOST_SHOWN]]) + more if len(values) > 1 else values[0]


def _in_words(offer: ModelOffer) -> str:
    return "; ".join(filter(None, (", ".join(offer.resolutions or ()), ", ".join(offer.aspect_ratios or ()))))


def _short_side(resolution: str) -> int | None:
    match = re.fullmatch(r"([1-9][0-9]{2,3})[pP]", resolution)
    return int(match[1]) if match else _SHORT_SIDES.get(resolution.lower())


def _parts(ratio: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"([1-9][0-9]{0,2}):([1-9][0-9]{0,2})", ratio)
    return (int(match[1]), int(match[2])) if match else None


def _of(ratio: str) -> float:
    width, height = _parts(ratio) or (1, 1)
    return width / height


def _has_ratio(size: Size, ratio: str) -> bool:
    return _parts(ratio) is not None and abs(size[0] / size[1] / _of(ratio) - 1) < _ALIKE


def _same(one: Size, other: Size) -> bool:
    """Whether two sizes are said in the same resolution and ratio."""
    return min(one) == min(other) and abs(one[0] / one[1] * other[1] / other[0] - 1) < _ALIKE


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
