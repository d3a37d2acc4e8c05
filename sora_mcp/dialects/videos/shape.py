"""Size and length in a server's words, and what that makes of what was asked for."""

from __future__ import annotations

from msgspec import Struct

from sora_mcp.core.capabilities import LEFT_OPEN, NOT_GIVEN, Adjustment
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.protocol import Measures
from sora_mcp.dialects.videos.profiles import Family, Profile

_SOURCES = "the source's"
_IMAGES = "the shape of the image"


class Shape(Struct, frozen=True):
    """Fields of the form, what was adjusted, and how many seconds there are; `left_open`: what nobody asked
    for, by our names. `is_open`: the server chooses that, not we."""

    fields: dict[str, str]
    adjusted: tuple[Adjustment, ...]
    seconds: float
    left_open: frozenset[str]
    is_open: bool = False


def shape_of(request: VideoRequest, profile: Profile, model: str | None) -> Shape:
    """What is sent for width, height and n_frames. What was not given is the server's, or its model's, to choose."""
    size_given = not request.model_fields_set.isdisjoint({"width", "height"})
    length_given = "n_frames" in request.model_fields_set or bool(request.actions)
    rule = profile.family(model)
    open_size, open_length = ("width", "height") * (not size_given), ("n_frames",) * (not length_given)
    left_open = frozenset((*open_size, *open_length))
    if rule is None:
        return _in_seconds(request, left_open)
    asked = (request.width, request.height) if size_given else None
    size, n_frames = fitting_size(asked, rule), _frames(request.n_frames if length_given else None, rule)
    fields = {"size": _size(size), profile.frames_field: str(n_frames), profile.fps_field: str(rule.fps)}
    adjusted = []
    if rule.ratios and not request.inpaint_items:
        fields["aspect_ratio"] = min(rule.ratios, key=lambda ratio: abs(_ratio(ratio) - size[0] / max(1, size[1])))
    if asked is None and rule.follows_image and request.inpaint_items:
        del fields["size"]
        adjusted.append(Adjustment("size", NOT_GIVEN, _IMAGES))
    elif size != asked:
        adjusted.append(Adjustment("size", _size(asked) if asked else NOT_GIVEN, _size(size), size=size))
    seconds = f"{round(request.n_frames / FPS, 2):g} s" if length_given else NOT_GIVEN
    length = _length(n_frames, rule.fps) + _whose_rule(profile, model, rule)
    adjusted.append(Adjustment("n_frames", seconds, length, n_frames=_of_ours(n_frames, rule.fps)))
    return Shape(fields, tuple(adjusted), n_frames / rule.fps, left_open)


def shape_of_source(measures: Measures | None, profile: Profile, model: str | None) -> Shape:
    """What is sent for size and length where both are an earlier video's: no side and no length is longer than that."""
    left_open, rule = frozenset({"width", "height", "n_frames"}), profile.family(model)
    if measures is None or rule is None:
        return Shape({}, tuple(Adjustment(name, NOT_GIVEN, _SOURCES) for name in ("size", "n_frames")), 0, left_open)
    size, fps = fitting_size((measures.width, measures.height), rule), max(1, round(measures.fps))
    n_frames = max(0, measures.n_frames - rule.rest) // rule.step * rule.step + rule.rest
    fields = {"size": _size(size), profile.frames_field: str(n_frames), profile.fps_field: str(fps)}
    own_size, own_length = f"{_SOURCES} {measures.width}x{measures.height}", f"{_SOURCES} {measures.n_frames} frames"
    sent_size = Adjustment("size", own_size, _size(size), size=size)
    sent_length = Adjustment("n_frames", own_length, _length(n_frames, fps), n_frames=_of_ours(n_frames, fps))
    return Shape(fields, (sent_size, sent_length), n_frames / fps, left_open)


def fitting_size(asked: tuple[int, int] | None, rule: Family) -> tuple[int, int]:
    """The size that a model makes in place of one: no side is longer. A side may become 0."""
    if asked is None:
        return rule.size
    width, height = rule.sizes.get(asked, asked)
    return width - width % rule.multiple, height - height % rule.multiple


def _frames(n_frames: int | None, rule: Family) -> int:
    """The nearest number of frames that a model makes; nearest to `n_frames` of ours."""
    if n_frames is None:
        return rule.n_frames
    steps = max(1, round((n_frames / FPS * rule.fps - rule.rest + 1) / rule.step))
    while rule.most_s is not None and (steps * rule.step + rule.rest) / rule.fps > rule.most_s:
        steps -= 1
    while (steps * rule.step + rule.rest) / rule.fps < rule.least_s:
        steps += 1
    return steps * rule.step + rule.rest


def _of_ours(n_frames: int, fps: int) -> int:
    """The frames of 1/30 s that last as long."""
    return round(n_frames / fps * FPS)


def _length(n_frames: int, fps: int) -> str:
    return f"{n_frames} frames at {fps} fps"


def _whose_rule(profile: Profile, model: str | None, rule: Family) -> str:
    """What is to be said where a model was named whose own rule is not known here."""
    if profile.has_rule_for(model):
        return ""
    return f", as {rule.words[0].capitalize()} makes (what {clean(model or '', 60)} makes is not known here)"


def _ratio(text: str) -> float:
    width, _, height = text.partition(":")
    return int(width) / int(height)


def _in_seconds(request: VideoRequest, left_open: frozenset[str]) -> Shape:
    fields: dict[str, str] = {}
    adjusted: list[Adjustment] = []
    if "width" not in left_open:
        fields["size"] = _size((request.width, request.height))
    else:
        adjusted.append(Adjustment("size", NOT_GIVEN, LEFT_OPEN))
    seconds = max(1, round(request.n_frames / FPS))
    if "n_frames" in left_open:
        adjusted.append(Adjustment("n_frames", NOT_GIVEN, LEFT_OPEN))
    else:
        fields["seconds"] = str(seconds)
        if seconds * FPS != request.n_frames:
            asked = f"{round(request.n_frames / FPS, 2):g} s"
            adjusted.append(Adjustment("n_frames", asked, f"{seconds} s", n_frames=seconds * FPS))
    return Shape(fields, tuple(adjusted), seconds, left_open, is_open=True)


def _size(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))
