"""Size and length in a model's own terms: what is sent for them, what that changes, and the nearest allowed values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from sora_mcp.core.capabilities import NOT_GIVEN, UPSTREAM_DEFAULT, Adjustment, ModelOffer
from sora_mcp.core.errors import Problem
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tables import FPS
from sora_mcp.dialects.shots import MIN_SHOT_S

Size = tuple[int, int]

_ASPECT_RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21")
"""Those that OpenRouter documents, for models that list none."""
_SHORT_SIDES = {"1k": 1024, "2k": 1440, "4k": 2160}
_RESOLUTIONS = ("360p", "480p", "540p", "720p", "768p", "1080p", "1440p", "2160p")
_RATIO_TOLERANCE = 0.01
"""Relative difference up to which two ratios count as equal: 854x480 is 16:9."""
MAX_LISTED_VALUES = 12
"""Allowed values that are named in a refusal, the nearest first."""


class Shape(Struct, frozen=True):
    """What is sent for size and length; `size` and `seconds` are the result, None if the upstream chooses.
    `left_open`: fields (by our names) that were not requested and do not have our default either."""

    fields: dict[str, Any]
    adjusted: tuple[Adjustment, ...]
    size: Size | None
    seconds: int | None
    left_open: frozenset[str]


def shape_of(request: VideoRequest, offer: ModelOffer) -> Shape:
    """Return what size and length become in a request without `problems`: requested values are sent as they are, and
    our default as the nearest one that the model takes."""
    size_fields, size, size_adjusted = _resolve_size(request, offer)
    seconds, length_adjusted = _resolve_length(request, offer)
    duration = {} if seconds is None else {"duration": seconds}
    left_open = ("width", "height") * bool(size_adjusted and not _has_size(request))
    left_open += ("n_frames",) * bool(length_adjusted)
    return Shape(size_fields | duration, (*size_adjusted, *length_adjusted), size, seconds, frozenset(left_open))


def problems(request: VideoRequest, offer: ModelOffer) -> Iterator[Problem]:
    """Yield the requested size and length that the model does not take, with the nearest ones that it does."""
    size = (request.width, request.height)
    if _has_size(request) and _size_fields(size, offer) is None:
        allowed = _format_allowed([_format_size(each) for each in _by_nearness(size, sizes_of(offer))])
        yield Problem(
            "width, height", f"{_format_size(size)} is not a size of {offer.id}", allowed or _format_shapes(offer)
        )
    seconds = request.n_frames / FPS
    if _has_length(request) and not _takes_seconds(seconds, offer):
        lengths = offer.seconds or (max(1, math.floor(seconds)), math.ceil(seconds))
        nearest = sorted(lengths, key=lambda each: (abs(each - seconds), each))
        allowed = _format_allowed([f"{each * FPS} ({each} s)" for each in nearest])
        problem = f"{request.n_frames} frames ({seconds:.3g} s) is not a length of {offer.id}"
        yield Problem("n_frames", problem, allowed)


def sizes_of(offer: ModelOffer) -> list[Size]:
    """Return every size that the model is known to take: those that it lists, then those of its resolutions and ratios
    that differ from them."""
    derived = [
        size for size in _derived_sizes(offer) if not any(_is_same_shape(size, each) for each in offer.sizes or ())
    ]
    return [*(offer.sizes or ()), *derived]


def _derived_sizes(offer: ModelOffer) -> Iterator[Size]:
    for resolution in offer.resolutions or ():
        short = _short_side(resolution)
        for ratio in offer.aspect_ratios or _ASPECT_RATIOS:
            if short is not None and (parts := _parse_ratio(ratio)) is not None:
                long = round(short * max(parts) / min(parts) / 2) * 2
                yield (long, short) if parts[0] >= parts[1] else (short, long)


def _has_size(request: VideoRequest) -> bool:
    return not request.model_fields_set.isdisjoint({"width", "height"})


def _has_length(request: VideoRequest) -> bool:
    return "n_frames" in request.model_fields_set


def _resolve_size(
    request: VideoRequest, offer: ModelOffer
) -> tuple[dict[str, Any], Size | None, tuple[Adjustment, ...]]:
    """Return the fields of a size, the resulting size, and what that changes."""
    size = (request.width, request.height)
    is_requested = _has_size(request)
    if not is_requested and request.operation == "remix":
        return {}, None, (Adjustment("size", NOT_GIVEN, "the source's"),)
    if not is_requested and offer.sizes is None and offer.resolutions is None:
        return _resolve_ratio(size, offer)
    fields = _size_fields(size, offer)
    if fields is not None:
        formatted = " ".join(fields.values())
        is_other = bool(offer.sizes) and "size" not in fields
        adjusted = Adjustment("size", _format_size(size), formatted, size=size)
        return fields, size, (adjusted,) if is_other and is_requested else ()
    nearest = _by_nearness(size, sizes_of(offer))
    if not nearest:  # resolutions that cannot be read
        return {}, None, (Adjustment("size", NOT_GIVEN, UPSTREAM_DEFAULT),)
    adjusted = Adjustment("size", NOT_GIVEN, _format_size(nearest[0]), size=nearest[0])
    return _size_fields(nearest[0], offer) or {}, nearest[0], (adjusted,)


def _resolve_ratio(size: Size, offer: ModelOffer) -> tuple[dict[str, Any], Size | None, tuple[Adjustment, ...]]:
    """Return the ratio of our default, for a model that lists no sizes; nothing if it lists no ratios either."""
    ratios = [each for each in offer.aspect_ratios or () if _parse_ratio(each) is not None]
    if not ratios:
        return {}, None, (Adjustment("size", NOT_GIVEN, UPSTREAM_DEFAULT),)
    ratio = min(ratios, key=lambda each: abs(math.log(_ratio_value(each) / (size[0] / size[1]))))
    return {"aspect_ratio": ratio}, None, (Adjustment("size", NOT_GIVEN, f"{ratio}, in {UPSTREAM_DEFAULT}"),)


def _size_fields(size: Size, offer: ModelOffer) -> dict[str, str] | None:
    """Return the fields for a size; None for a size that the model does not take."""
    if size in (offer.sizes or ()):
        return {"size": _format_size(size)}
    if offer.resolutions is None and offer.aspect_ratios is None:
        return {"size": _format_size(size)} if offer.sizes is None else None
    ratio = next((each for each in offer.aspect_ratios or _ASPECT_RATIOS if _has_ratio(size, each)), None)
    resolution = next((each for each in offer.resolutions or _RESOLUTIONS if _short_side(each) == min(size)), None)
    return {"resolution": resolution, "aspect_ratio": ratio} if ratio and resolution else None


def _resolve_length(request: VideoRequest, offer: ModelOffer) -> tuple[int | None, tuple[Adjustment, ...]]:
    """Return the seconds that are sent, and what that changes."""
    seconds = request.n_frames / FPS
    if _has_length(request) or (request.operation != "remix" and offer.seconds and seconds in offer.seconds):
        return int(seconds), ()
    if request.operation == "remix":
        return None, (Adjustment("n_frames", NOT_GIVEN, "the source's, or as the model does"),)
    actions = request.actions or []
    if not offer.seconds:
        return (int(seconds), ()) if actions else (None, (Adjustment("n_frames", NOT_GIVEN, UPSTREAM_DEFAULT),))
    min_seconds = actions[-1].time / FPS + MIN_SHOT_S if actions else 0
    lengths = [each for each in offer.seconds if each >= min_seconds] or offer.seconds
    nearest = min(lengths, key=lambda each: (abs(each - seconds), each))
    return nearest, (Adjustment("n_frames", NOT_GIVEN, f"{nearest} s", n_frames=nearest * FPS),)


def _takes_seconds(seconds: float, offer: ModelOffer) -> bool:
    return seconds % 1 == 0 and (offer.seconds is None or seconds in offer.seconds)


def _by_nearness(size: Size, sizes: list[Size]) -> list[Size]:
    """Return the sizes, nearest first: another shape is farther away than a larger size of the same shape."""

    def distance(other: Size) -> float:
        shape_distance = math.log(other[0] / other[1] * size[1] / size[0])
        return 4 * abs(shape_distance) + abs(math.log(other[0] * other[1] / (size[0] * size[1])))

    return sorted(sizes, key=distance)


def _format_allowed(values: list[str]) -> str:
    """Format allowed values, the first of which is the nearest."""
    if not values:
        return ""
    more = f" and {len(values) - MAX_LISTED_VALUES} more" if len(values) > MAX_LISTED_VALUES else ""
    return ", ".join([f"{values[0]} is nearest", *values[1:MAX_LISTED_VALUES]]) + more if len(values) > 1 else values[0]


def _format_shapes(offer: ModelOffer) -> str:
    return "; ".join(filter(None, (", ".join(offer.resolutions or ()), ", ".join(offer.aspect_ratios or ()))))


def _short_side(resolution: str) -> int | None:
    match = re.fullmatch(r"([1-9][0-9]{2,3})[pP]", resolution)
    return int(match[1]) if match else _SHORT_SIDES.get(resolution.lower())


def _parse_ratio(ratio: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"([1-9][0-9]{0,2}):([1-9][0-9]{0,2})", ratio)
    return (int(match[1]), int(match[2])) if match else None


def _ratio_value(ratio: str) -> float:
    width, height = _parse_ratio(ratio) or (1, 1)
    return width / height


def _has_ratio(size: Size, ratio: str) -> bool:
    return _parse_ratio(ratio) is not None and abs(size[0] / size[1] / _ratio_value(ratio) - 1) < _RATIO_TOLERANCE


def _is_same_shape(one: Size, other: Size) -> bool:
    """Whether two sizes have the same resolution and ratio."""
    return min(one) == min(other) and abs(one[0] / one[1] * other[1] / other[0] - 1) < _RATIO_TOLERANCE


def _format_size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
