"""Size and length in a server's own fields, and how they differ from the request."""

from __future__ import annotations

from msgspec import Struct

from sora_mcp.core.capabilities import NOT_GIVEN, UPSTREAM_DEFAULT, Adjustment
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.protocol import Measurements
from sora_mcp.dialects.videos.profiles import Family, Profile

_FROM_SOURCE = "the source's"
_FROM_IMAGE = "the shape of the image"


class Shape(Struct, frozen=True):
    """Fields of the form, what was adjusted, and the length in seconds; `left_open`: what the request leaves out, by
    our names. `is_open`: the server chooses those values, not we."""

    fields: dict[str, str]
    adjusted: tuple[Adjustment, ...]
    seconds: float
    left_open: frozenset[str]
    is_open: bool = False


def shape_of(request: VideoRequest, profile: Profile, model: str | None) -> Shape:
    """Return what is sent for width, height and n_frames. The server or its model chooses what the request lacks."""
    has_size = not request.model_fields_set.isdisjoint({"width", "height"})
    has_length = "n_frames" in request.model_fields_set or bool(request.actions)
    rule = profile.family(model)
    open_size, open_length = ("width", "height") * (not has_size), ("n_frames",) * (not has_length)
    left_open = frozenset((*open_size, *open_length))
    if rule is None:
        return _shape_in_seconds(request, left_open)
    requested = (request.width, request.height) if has_size else None
    size, n_frames = fitting_size(requested, rule), _nearest_frames(request.n_frames if has_length else None, rule)
    fields = {"size": _format_size(size), profile.frames_field: str(n_frames), profile.fps_field: str(rule.fps)}
    adjusted = []
    if rule.ratios and not request.inpaint_items:
        fields["aspect_ratio"] = min(rule.ratios, key=lambda ratio: abs(_ratio(ratio) - size[0] / max(1, size[1])))
    if requested is None and rule.follows_image and request.inpaint_items:
        del fields["size"]
        adjusted.append(Adjustment("size", NOT_GIVEN, _FROM_IMAGE))
    elif size != requested:
        asked = _format_size(requested) if requested else NOT_GIVEN
        adjusted.append(Adjustment("size", asked, _format_size(size), size=size))
    seconds = f"{round(request.n_frames / FPS, 2):g} s" if has_length else NOT_GIVEN
    length = _format_length(n_frames, rule.fps) + _rule_caveat(profile, model, rule)
    adjusted.append(Adjustment("n_frames", seconds, length, n_frames=_standard_frames(n_frames, rule.fps)))
    return Shape(fields, tuple(adjusted), n_frames / rule.fps, left_open)


def shape_of_source(measurements: Measurements | None, profile: Profile, model: str | None) -> Shape:
    """Return what is sent if size and length are an earlier video's: neither a side nor the length gets longer."""
    left_open, rule = frozenset({"width", "height", "n_frames"}), profile.family(model)
    if measurements is None or rule is None:
        adjusted = tuple(Adjustment(name, NOT_GIVEN, _FROM_SOURCE) for name in ("size", "n_frames"))
        return Shape({}, adjusted, 0, left_open)
    size, fps = fitting_size((measurements.width, measurements.height), rule), max(1, round(measurements.fps))
    n_frames = max(0, measurements.n_frames - rule.rest) // rule.step * rule.step + rule.rest
    fields = {"size": _format_size(size), profile.frames_field: str(n_frames), profile.fps_field: str(fps)}
    own_size = f"{_FROM_SOURCE} {measurements.width}x{measurements.height}"
    own_length, length = f"{_FROM_SOURCE} {measurements.n_frames} frames", _format_length(n_frames, fps)
    sent_size = Adjustment("size", own_size, _format_size(size), size=size)
    sent_length = Adjustment("n_frames", own_length, length, n_frames=_standard_frames(n_frames, fps))
    return Shape(fields, (sent_size, sent_length), n_frames / fps, left_open)


def fitting_size(requested: tuple[int, int] | None, rule: Family) -> tuple[int, int]:
    """Return the size that a model makes in place of a requested one: no side gets longer. A side may become 0."""
    if requested is None:
        return rule.size
    width, height = rule.sizes.get(requested, requested)
    return width - width % rule.multiple, height - height % rule.multiple


def _nearest_frames(n_frames: int | None, rule: Family) -> int:
    """Return the number of frames that a model makes whose length is nearest to `n_frames` of 1/30 s."""
    if n_frames is None:
        return rule.n_frames
    steps = max(1, round((n_frames / FPS * rule.fps - rule.rest + 1) / rule.step))
    while rule.max_s is not None and (steps * rule.step + rule.rest) / rule.fps > rule.max_s:
        steps -= 1
    while (steps * rule.step + rule.rest) / rule.fps < rule.min_s:
        steps += 1
    return steps * rule.step + rule.rest


def _standard_frames(n_frames: int, fps: int) -> int:
    """Return the number of frames of 1/30 s with the same length."""
    return round(n_frames / fps * FPS)


def _format_length(n_frames: int, fps: int) -> str:
    return f"{n_frames} frames at {fps} fps"


def _rule_caveat(profile: Profile, model: str | None, rule: Family) -> str:
    """Return the caveat for a named model whose own rule is not known here."""
    if profile.has_rule_for(model):
        return ""
    return f", as {rule.name_parts[0].capitalize()} makes (what {clean(model or '', 60)} makes is not known here)"


def _ratio(text: str) -> float:
    width, _, height = text.partition(":")
    return int(width) / int(height)


def _shape_in_seconds(request: VideoRequest, left_open: frozenset[str]) -> Shape:
    fields: dict[str, str] = {}
    adjusted: list[Adjustment] = []
    if "width" not in left_open:
        fields["size"] = _format_size((request.width, request.height))
    else:
        adjusted.append(Adjustment("size", NOT_GIVEN, UPSTREAM_DEFAULT))
    seconds = max(1, round(request.n_frames / FPS))
    if "n_frames" in left_open:
        adjusted.append(Adjustment("n_frames", NOT_GIVEN, UPSTREAM_DEFAULT))
    else:
        fields["seconds"] = str(seconds)
        if seconds * FPS != request.n_frames:
            requested = f"{round(request.n_frames / FPS, 2):g} s"
            adjusted.append(Adjustment("n_frames", requested, f"{seconds} s", n_frames=seconds * FPS))
    return Shape(fields, tuple(adjusted), seconds, left_open, is_open=True)


def _format_size(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))
