"""Reading OpenRouter's list of models tolerantly: null values are accepted, and unknown fields ignored.

Source: the page of `GET /api/v1/videos/models`, and the models of the Python SDK `openrouter` 1.3.84 (2026-11).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from sora_mcp.core.capabilities import ModelOffer
from sora_mcp.core.tasks import clean

T = TypeVar("T")

MAX_MODELS = 500
"""Models that are read; the list had about twenty in 2026-11."""
MAX_VALUES = 200
"""Values of one field that are read."""
_MAX_VALUE_LENGTH = 200
_CONTINUING_MODELS = ("grok-imagine", "veo-3.1")
"""Parts of the names of models whose makers document that they edit or extend an earlier video (inferred: the list
does not say it). A model that cannot refuses with a 400, which costs nothing."""
_VIDEO_REFERENCE_MODELS = ("seedance-2",)
"""The same for models that take a video as a reference. Others are said to ignore it, and the call would be paid."""


def serialize(entries: Iterable[Any]) -> str:
    """Return the entries of a list as a text to store: the fields that are read, within their bounds."""
    fields = ("id", "name", "pricing_skus", "allowed_passthrough_parameters", *_FIELDS)
    models = [each for each in entries if isinstance(each, dict) and _is_id(each.get("id"))][:MAX_MODELS]
    return json.dumps([{name: _bounded(each[name]) for name in fields if name in each} for each in models])


def _bounded(value: Any) -> Any:
    """Return a field's value within the bounds, nested no deeper than in the documented fields."""
    if isinstance(value, list):
        return [each for each in value[:MAX_VALUES] if _is_short(each)]
    if isinstance(value, dict):
        pairs = list(value.items())[:MAX_VALUES]
        return {name: each for name, each in pairs if _is_short(name) and _is_short(each)}
    return value if _is_short(value) else None


def _is_short(value: object) -> bool:
    return not isinstance(value, list | dict) and len(str(value)) <= _MAX_VALUE_LENGTH


def parse_offers(text: str) -> dict[str, ModelOffer]:
    """Return a stored list by the names of the models. Raises ValueError if the text is not a list."""
    try:
        entries = json.loads(text)
    except RecursionError:
        raise ValueError from None
    if not isinstance(entries, list):
        raise ValueError("no list of models")  # noqa: TRY004 - the input is a text, and this a value in it
    offers = [_offer(each) for each in entries[:MAX_MODELS] if isinstance(each, dict) and _is_id(each.get("id"))]
    return {offer.id: offer for offer in offers}


_FIELDS = (
    "supported_sizes",
    "supported_resolutions",
    "supported_aspect_ratios",
    "supported_durations",
    "supported_frame_images",
    "generate_audio",
    "seed",
    "upscale_factor",
    "creativity",
)


def _offer(entry: Mapping[str, Any]) -> ModelOffer:
    name = str(entry["id"])
    parameters = _values(entry.get("allowed_passthrough_parameters"), _identifier) or ()
    frame_images = entry.get("supported_frame_images")
    return ModelOffer(
        id=name,
        name=clean(entry["name"], 80) if isinstance(entry.get("name"), str) else "",
        sizes=_values(entry.get("supported_sizes"), _size) or None,
        resolutions=_values(entry.get("supported_resolutions"), _identifier) or None,
        aspect_ratios=_values(entry.get("supported_aspect_ratios"), _identifier) or None,
        seconds=_values(entry.get("supported_durations"), _seconds) or None,
        frame_images=_values(frame_images, _identifier) if isinstance(frame_images, list) else None,
        audio=_flag(entry.get("generate_audio")),
        seed=_flag(entry.get("seed")),
        continues="previous_job_id" in parameters or any(word in name.lower() for word in _CONTINUING_MODELS),
        takes_videos="input_references" in parameters or any(word in name.lower() for word in _VIDEO_REFERENCE_MODELS),
        needs_video=isinstance(entry.get("upscale_factor"), dict) or bool(_values(entry.get("creativity"), _seconds)),
        prices=_prices(entry.get("pricing_skus")),
    )


def _is_id(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[!-~]{1,200}", value) is not None


def _values(value: object, read: Callable[[object], T | None]) -> tuple[T, ...]:
    """Return the values of a list that can be read, each once."""
    if not isinstance(value, list):
        return ()
    values = (read(each) for each in value[:MAX_VALUES])
    return tuple(dict.fromkeys(each for each in values if each is not None))


def _identifier(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.:/-]{1,60}", value) else None


def _size(value: object) -> tuple[int, int] | None:
    match = re.fullmatch(r"([1-9][0-9]{1,4})[xX]([1-9][0-9]{1,4})", value) if isinstance(value, str) else None
    return (int(match[1]), int(match[2])) if match else None


def _seconds(value: object) -> int | None:
    match = re.fullmatch(r"([1-9][0-9]{0,3})(\.0)?", str(value))
    return int(match[1]) if match else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _prices(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    prices = ((name, price) for name, price in value.items() if not isinstance(price, bool))
    pairs = [(name, str(price)) for name, price in prices if isinstance(price, str | int | float)]
    return {clean(name, 80): clean(price, 40) for name, price in pairs}
