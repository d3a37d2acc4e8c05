"""Size and length in a server's words, and what that makes of what was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from sora_mcp.core.capabilities import LEFT_OPEN, NOT_GIVEN, Adjustment
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tables import FPS
from sora_mcp.dialects.videos.profiles import Frames, Profile


@dataclass(frozen=True, slots=True)
class Shape:
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
    rule = profile.frames(model)
    open_size, open_length = ("width", "height") * (not size_given), ("n_frames",) * (not length_given)
    left_open = frozenset((*open_size, *open_length))
    if rule is None:
        return _in_seconds(request, left_open)
    asked = (request.width, request.height) if size_given else None
    size, n_frames = fitting_size(asked, rule), _frames(request.n_frames if length_given else None, rule)
    adjusted = []
    if size != asked:
        adjusted.append(Adjustment("size", _size(asked) if asked else NOT_GIVEN, _size(size)))
    seconds = f"{round(request.n_frames / FPS, 2):g} s" if length_given else NOT_GIVEN
    adjusted.append(Adjustment("n_frames", seconds, f"{n_frames} frames at {rule.fps} fps"))
    fields = {"size": _size(size), profile.frames_field: str(n_frames), profile.fps_field: str(rule.fps)}
    return Shape(fields, tuple(adjusted), n_frames / rule.fps, left_open)


def fitting_size(asked: tuple[int, int] | None, rule: Frames) -> tuple[int, int]:
    """The size that a model makes in place of one: no side is longer. A side may become 0."""
    if asked is None:
        return rule.size
    width, height = rule.sizes.get(asked, asked)
    return width - width % rule.multiple, height - height % rule.multiple


def _frames(n_frames: int | None, rule: Frames) -> int:
    if n_frames is None:
        return rule.n_frames
    return max(1, round(n_frames / FPS * rule.fps / rule.step)) * rule.step + 1


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
            adjusted.append(Adjustment("n_frames", f"{round(request.n_frames / FPS, 2):g} s", f"{seconds} s"))
    return Shape(fields, tuple(adjusted), seconds, left_open, is_open=True)


def _size(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))
