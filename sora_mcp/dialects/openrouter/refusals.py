"""Refusing, before anything is sent, what cannot be expressed for a model at OpenRouter."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from sora_mcp.core.advice import Message, Setting
from sora_mcp.core.capabilities import Capabilities, ModelOffer
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tasks import quoted
from sora_mcp.dialects import shots
from sora_mcp.dialects.openrouter import frames, shape
from sora_mcp.dialects.protocol import CannotExpress

MAX_NAMED_MODELS = 8
"""Models that are named in a refusal."""


def find_offer(model: str | None, offers: Mapping[str, ModelOffer]) -> ModelOffer:
    """Return what is known of a model: nothing before a list was read. Raises InvalidInput for a model that the list
    does not have, and if none is named."""
    if model is None:
        raise InvalidInput([Problem("model", "is not named", _available_models("", offers))])
    if re.fullmatch(r"[!-~]{1,200}", model) is None:
        raise InvalidInput([Problem("model", "is not a model name", _available_models(model, offers))])
    if offers and model not in offers:
        quoted_name = quoted(model, 60)
        raise InvalidInput([Problem("model", f"the gateway has no {quoted_name}", _available_models(model, offers))])
    return offers.get(model, ModelOffer(id=model))


def _available_models(model: str, offers: Mapping[str, ModelOffer]) -> Message:
    """Return the models that exist, those with names similar to the unknown one first."""
    if not offers:
        return "a model that the gateway lists, also through the setting ", Setting("model")
    usable = [name for name, offer in offers.items() if not offer.needs_video]
    close = difflib.get_close_matches(model.lower(), usable, n=MAX_NAMED_MODELS, cutoff=0.5)
    names = [*close, *(each for each in usable if each not in close)]
    listed = ", ".join([f"{names[0]} is nearest", *names[1:MAX_NAMED_MODELS]] if close else names[:MAX_NAMED_MODELS])
    more = f" and {len(names) - MAX_NAMED_MODELS} more" if len(names) > MAX_NAMED_MODELS else ""
    return f"{listed}{more} (also through the setting ", Setting("model"), ")"


def check(request: VideoRequest, offer: ModelOffer, capabilities: Capabilities) -> None:
    """Raise CannotExpress naming all that cannot be expressed there, or InvalidInput for what is always wrong."""
    if offer.needs_video:
        raise CannotExpress("model", f"{offer.id} enlarges videos and makes none", "another model")
    if capabilities.support(request.operation) == "impossible":
        raise CannotExpress("operation", f"{offer.id} has no {request.operation}", _alternative(request, capabilities))
    if request.operation == "blend" and len(request.inpaint_items) != 2:
        request.check(capabilities)
    _raise_if_any([*_field_problems(request), *frames.problems(request, offer)])
    request.check(replace(capabilities, any_size=True, any_length=True))  # `shape` names the nearest
    _raise_if_any([*shape.problems(request, offer)])
    _raise_if_any([*_shot_problems(request, offer)])


def _alternative(request: VideoRequest, capabilities: Capabilities) -> str:
    """Return the alternatives if a model lacks an operation: the models that have it, or a prompt for all of it."""
    support = {"remix": frames.remix_support, "blend": frames.blend_support}[request.operation]
    able = [each.id for each in capabilities.offers if support(each) != "impossible" and not each.needs_video]
    models = f"model {' or '.join(able[:MAX_NAMED_MODELS])}, or " if able else ""
    return f"{models}a new video whose prompt says the whole scene"


def _raise_if_any(problems: list[Problem]) -> None:
    if problems:
        first, *more = problems
        raise CannotExpress(first.field, first.reason, str(first.allowed), more)


def _field_problems(request: VideoRequest) -> Iterator[Problem]:
    if request.n_variants > 1:
        problem = f"OpenRouter makes 1 at a time, not {request.n_variants}"
        yield Problem("n_variants", problem, "1; each further video is a call of its own")
    edit = request.sdedit
    if edit is not None and edit.amount is not None:
        yield Problem("amount", "OpenRouter has no setting for how far a remix goes", "put it in the prompt")
    if edit is not None and edit.source_upload_media_id is not None:
        yield Problem("source_upload_media_id", "OpenRouter takes no uploads", "the id of a finished video")


def _shot_problems(request: VideoRequest, offer: ModelOffer) -> Iterator[Problem]:
    seconds = shape.shape_of(request, offer).seconds or 0
    allowed = f"beats 30 frames or more apart, and before the end at {seconds} s"
    yield from shots.problems(request.actions or (), seconds, allowed)
