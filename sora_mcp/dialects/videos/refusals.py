"""What a server that speaks `/v1/videos` has no words for: refused by name before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.errors import Problem
from sora_mcp.core.models import InpaintItem, VideoRequest
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.protocol import CannotExpress
from sora_mcp.dialects.shots import LEAST_S, spans
from sora_mcp.dialects.videos.profiles import Profile
from sora_mcp.dialects.videos.shape import fitting_size, shape_of

_INSTEAD = {
    "remix": "a new video whose prompt says the whole scene",
    "blend": "a new video whose prompt says both scenes",
}


def check(request: VideoRequest, profile: Profile, capabilities: Capabilities, model: str | None) -> None:
    """Raise CannotExpress naming everything that cannot be said there, or InvalidInput for what is wrong anywhere."""
    server = f"a server of the kind {profile.name}"
    if capabilities.support(request.operation) == "impossible":
        instead = _INSTEAD.get(request.operation, "")
        raise CannotExpress("operation", f"{server} has no {request.operation}", instead)
    if problems := [*_of_fields(request, profile, server), *_of_items(request, server)]:
        first, *more = problems
        raise CannotExpress(first.field, first.wrong, str(first.allowed), more)
    request.check(capabilities)
    if problems := [*_of_shape(request, profile, model)]:
        first, *more = problems
        raise CannotExpress(first.field, first.wrong, str(first.allowed), more)


def _of_fields(request: VideoRequest, profile: Profile, server: str) -> Iterator[Problem]:
    if request.n_variants > profile.max_variants:
        most = "1" if profile.max_variants == 1 else f"1 to {profile.max_variants}"
        yield Problem("n_variants", f"{server} makes {most} at a time, not {request.n_variants}", most)
    if request.model is not None and not re.fullmatch(r"[!-~]{1,200}", request.model):
        yield Problem("model", "is no name of a model", "1 to 200 letters, digits or signs without spaces")
    edit = request.sdedit
    if edit is not None and edit.amount is not None:
        yield Problem("amount", f"{server} has no word for how far a remix goes", "say it in the prompt")
    if edit is not None and edit.source_upload_media_id is not None:
        yield Problem("source_upload_media_id", f"{server} takes no uploads", "the id of a finished video")
    if request.operation == "remix":
        named = request.model_fields_set & {"width", "height", "n_frames", "n_variants", "model"}
        for name in sorted(named):
            yield Problem(name, f"{server} takes it from the video that is remixed", "leave it out")
    if not request.actions and not (request.prompt and clean(request.prompt)):
        yield Problem("prompt", f"{server} makes no video without a prompt", "a text that says what is seen")


def _of_items(request: VideoRequest, server: str) -> Iterator[Problem]:
    items = request.inpaint_items
    if len(items) > 1:
        yield Problem("inpaint_items", f"{server} takes one image, not {len(items)}", "one image, at frame 0")
    for i, item in enumerate(items):
        for name, why, instead in _in_item(item):
            yield Problem(f"inpaint_items[{i}].{name}", f"{server} {why}", instead)


def _in_item(item: InpaintItem) -> Iterator[tuple[str, str, str]]:
    if item.upload_media_id is not None:
        yield "upload_media_id", "takes no uploads", "the image's address or path, as url"
    if item.generation_id is not None:
        yield "generation_id", "takes no videos", "an image, as url"
    if item.preset_id is not None:
        yield "preset_id", "has no presets", "leave it out"
    if item.frame_index:
        yield "frame_index", f"takes an image at the first frame only, not at {item.frame_index}", "0"
    for name in ("source_start_frame", "source_end_frame"):
        if getattr(item, name) is not None:
            yield name, "takes no ranges", "leave it out"


def _of_shape(request: VideoRequest, profile: Profile, model: str | None) -> Iterator[Problem]:
    rule = profile.frames(model)
    if rule is not None and 0 in fitting_size((request.width, request.height), rule):
        wrong = f"{request.width}x{request.height} is less than this model makes"
        yield Problem("width, height", wrong, f"{rule.multiple} pixels or more")
    actions = request.actions or []
    seconds = shape_of(request, profile, model).seconds
    for i, (start, end) in enumerate(spans(actions, seconds)):
        if end - start < LEAST_S - 1e-6:
            wrong = f"this beat would last {max(0.0, end - start):.2g} s; a shot in a prompt lasts a second at least"
            yield Problem(f"actions[{i}].time", wrong, "beats 30 frames or more apart, and before the end")
