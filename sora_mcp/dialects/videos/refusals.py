"""Refusing, before anything is sent, what a server with `/v1/videos` cannot express."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.errors import Problem
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import clean
from sora_mcp.dialects import shots
from sora_mcp.dialects.protocol import CannotExpress
from sora_mcp.dialects.videos.profiles import Profile
from sora_mcp.dialects.videos.references import Abilities, item_problems
from sora_mcp.dialects.videos.shape import fitting_size, shape_of

_ALTERNATIVES = {
    "remix": "a new video whose prompt says the whole scene",
    "blend": "a new video whose prompt says both scenes",
}


def check(request: VideoRequest, profile: Profile, capabilities: Capabilities, model: str | None) -> None:
    """Raise CannotExpress naming all that cannot be expressed there, or InvalidInput for what is always wrong."""
    server, abilities = f"a server of the kind {profile.name}", Abilities.of(profile, model)
    if {"remix": abilities.remix, "blend": abilities.blend}.get(request.operation) == "impossible":
        raise _unsupported(request.operation, profile, server, model)
    if request.operation == "blend" and len(request.inpaint_items) != 2:
        request.check(capabilities)
    if problems := [*_field_problems(request, profile, abilities, server), *item_problems(request, abilities, server)]:
        first, *more = problems
        raise CannotExpress(first.field, first.reason, str(first.allowed), more)
    request.check(capabilities)
    if problems := [*_shape_problems(request, profile, model)]:
        first, *more = problems
        raise CannotExpress(first.field, first.reason, str(first.allowed), more)


def _unsupported(operation: str, profile: Profile, server: str, model: str | None) -> CannotExpress:
    """Return the error for an operation that a type of server lacks, or has only with other models."""
    last_image_models = tuple(each.name_parts[0] for each in profile.models if each.takes_last_image)
    able = {"remix": profile.video_models, "blend": last_image_models}[operation]
    depends_on_model = bool(able) or (operation == "remix" and bool(profile.video_field))
    model_name = f"the model {clean(model, 60)}" if model else "a model that is not named"
    others = f" (it goes on a server whose model has {' or '.join(able)} in its name)" if able else ""
    reason = f"{server} has no {operation}{f' with {model_name}' if depends_on_model else ''}"
    return CannotExpress("operation", reason, _ALTERNATIVES[operation] + others)


def _field_problems(request: VideoRequest, profile: Profile, abilities: Abilities, server: str) -> Iterator[Problem]:
    if request.n_variants > profile.max_variants:
        allowed = "1" if profile.max_variants == 1 else f"1 to {profile.max_variants}"
        yield Problem("n_variants", f"{server} makes {allowed} at a time, not {request.n_variants}", allowed)
    if request.model is not None and not re.fullmatch(r"[!-~]{1,200}", request.model):
        yield Problem("model", "is not a model name", "1 to 200 letters, digits or signs without spaces")
    edit = request.sdedit
    if edit is not None and edit.amount is not None:
        yield Problem("amount", f"{server} has no setting for how far a remix goes", "put it in the prompt")
    if edit is not None and edit.source_upload_media_id is not None:
        yield Problem("source_upload_media_id", f"{server} takes no uploads", "the id of a finished video")
    if request.operation == "remix":
        inherited = {"width", "height", "n_frames"} | ({"n_variants", "model"} if abilities.remix == "exact" else set())
        for name in sorted(request.model_fields_set & inherited):
            yield Problem(name, f"{server} takes it from the video that is remixed", "leave it out")
    if request.operation != "blend" and not request.actions and not (request.prompt and clean(request.prompt)):
        yield Problem("prompt", f"{server} makes no video without a prompt", "text that says what is seen")


def _shape_problems(request: VideoRequest, profile: Profile, model: str | None) -> Iterator[Problem]:
    rule = profile.family(model)
    if rule is not None and 0 in fitting_size((request.width, request.height), rule):
        problem = f"{request.width}x{request.height} is less than this model makes"
        yield Problem("width, height", problem, f"{rule.multiple} pixels or more")
    if rule is not None and "n_frames" in request.model_fields_set:
        requested_s, max_s = request.n_frames / FPS, rule.max_s
        if requested_s < rule.min_s or (max_s is not None and requested_s > max_s):
            allowed = f"{rule.min_s * FPS:g} to {(max_s or 0) * FPS:g} ({rule.min_s:g} to {max_s:g} s)"
            yield Problem("n_frames", f"{request.n_frames} ({requested_s:g} s) is not what this model makes", allowed)
    seconds = shape_of(request, profile, model).seconds
    yield from shots.problems(request.actions or (), seconds, "beats 30 frames or more apart, and before the end")
