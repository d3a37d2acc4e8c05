"""What a model at OpenRouter has no words for: refused by name before anything is sent."""

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
from sora_mcp.dialects.openrouter import frames, shape
from sora_mcp.dialects.protocol import CannotExpress
from sora_mcp.dialects.shots import LEAST_S, spans

MOST_NAMED = 8
"""So many models are named in a refusal."""


def offer_of(model: str | None, offers: Mapping[str, ModelOffer]) -> ModelOffer:
    """What is known of a model; nothing is, as long as no list was read. Raises InvalidInput for one that the list
    does not have, and where none is named."""
    if model is None:
        raise InvalidInput([Problem("model", "is not named", _named("", offers))])
    if re.fullmatch(r"[!-~]{1,200}", model) is None:
        raise InvalidInput([Problem("model", "is not a model name", _named(model, offers))])
    if offers and model not in offers:
        shown = quoted(model, 60)
        raise InvalidInput([Problem("model", f"the gateway has no {shown}", _named(model, offers))])
    return offers.get(model, ModelOffer(id=model))


def _named(model: str, offers: Mapping[str, ModelOffer]) -> Message:
    """The models that there are, those first that look like the one that there is not."""
    if not offers:
        return "a model that the gateway lists, also through the setting ", Setting("model")
    makers = [name for name, offer in offers.items() if not offer.needs_video]
    near = difflib.get_close_matches(model.lower(), makers, n=MOST_NAMED, cutoff=0.5)
    names = [*near, *(each for each in makers if each not in near)]
    shown = ", ".join([f"{names[0]} is nearest", *names[1:MOST_NAMED]] if near else names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{shown}{more} (also through the setting ", Setting("model"), ")"


def check(request: VideoRequest, offer: ModelOffer, capabilities: Capabilities) -> None:
    """Raise CannotExpress naming everything that cannot be said there, or InvalidInput for what is wrong anywhere."""
    if offer.needs_video:
        raise CannotExpress("model", f"{offer.id} enlarges videos and makes none", "another model")
    if capabilities.support(request.operation) == "impossible":
        raise CannotExpress("operation", f"{offer.id} has no {request.operation}", _instead(request, capabilities))
    if request.operation == "blend" and len(request.inpaint_items) != 2:
        request.check(capabilities)
    _refuse([*_of_fields(request), *frames.problems(request, offer)])
    request.check(replace(capabilities, any_size=True, any_length=True))  # `shape` names the nearest
    _refuse([*shape.problems(request, offer)])
    _refuse([*_of_shots(request, offer)])


def _instead(request: VideoRequest, capabilities: Capabilities) -> str:
    """What can be done where a model lacks an operation: the models that have it, or a prompt for all of it."""
    support = {"remix": frames.remix_of, "blend": frames.blend_of}[request.operation]
    able = [each.id for each in capabilities.offers if support(each) != "impossible" and not each.needs_video]
    models = f"model {' or '.join(able[:MOST_NAMED])}, or " if able else ""
    return f"{models}a new video whose prompt says the whole scene"


def _refuse(problems: list[Problem]) -> None:
    if problems:
        first, *more = problems
        raise CannotExpress(first.field, first.wrong, str(first.allowed), more)


def _of_fields(request: VideoRequest) -> Iterator[Problem]:
    if request.n_variants > 1:
        wrong = f"OpenRouter makes 1 at a time, not {request.n_variants}"
        yield Problem("n_variants", wrong, "1; each further video is a call of its own")
    edit = request.sdedit
    if edit is not None and edit.amount is not None:
        yield Problem("amount", "OpenRouter cannot be told how far a remix is to go", "say it in the prompt")
    if edit is not None and edit.source_upload_media_id is not None:
        yield Problem("source_upload_media_id", "OpenRouter takes no uploads", "the id of a finished video")


def _of_shots(request: VideoRequest, offer: ModelOffer) -> Iterator[Problem]:
    actions = request.actions or []
    seconds = shape.shape_of(request, offer).seconds or 0
    for i, (start, end) in enumerate(spans(actions, seconds)):
        if end - start < LEAST_S - 1e-6:
            wrong = f"this beat would last {max(0.0, end - start):.2g} s; a shot in a prompt lasts a second at least"
            yield Problem(
                f"actions[{i}].time", wrong, f"beats 30 frames or more apart, and before the end at {seconds} s"
            )
