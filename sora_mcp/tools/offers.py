"""What the models of an upstream take, in words: each in a line, and one in full. Only what is plain is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sora_mcp.core.capabilities import ModelOffer
from sora_mcp.core.description import OfferedModel
from sora_mcp.core.tasks import is_plain_id
from sora_mcp.tools.wording import Wording

MOST_MODELS = 12
"""So many models have a line; the others are counted."""
_MOST_VALUES = 4
"""So many values of one kind stand in a line."""
COLUMNS = ("model", "sizes", "lengths", "images", "sound", "prices")


def say_offers(offers: Sequence[ModelOffer], wording: Wording) -> Iterator[str]:
    """A line for each model, and how one is told in full."""
    plain = [offer for offer in offers if is_plain_id(offer.id)]
    if not plain:
        return
    yield from wording.table("Models", COLUMNS, [_line(offer) for offer in plain[:MOST_MODELS]])
    more = f"{len(plain) - MOST_MODELS} more are in the list. " if len(plain) > MOST_MODELS else ""
    yield f"{more}{wording.argument('model')} tells one in full."


def _line(offer: ModelOffer) -> tuple[str, ...]:
    frames = " and ".join(name.partition("_")[0] for name in offer.frame_images or ())
    images = "not said" if offer.frame_images is None else frames or "references"
    sound = {None: "not said", True: "yes", False: "no"}[offer.audio]
    if offer.needs_video:
        return offer.id, "enlarges videos, makes none", "", "", "", _prices(offer)
    return offer.id, _sizes(offer), _lengths(offer.seconds), images, sound, _prices(offer)


def _sizes(offer: ModelOffer) -> str:
    ratios = _some(offer.aspect_ratios or ())
    if offer.resolutions:
        return _some(offer.resolutions) + (f" in {ratios}" if ratios else "")
    return _some([f"{width}x{height}" for width, height in offer.sizes or ()]) or ratios or "not said"


def _lengths(seconds: tuple[int, ...] | None) -> str:
    if not seconds:
        return "not said"
    least, most = min(seconds), max(seconds)
    is_range = len(seconds) > 2 and set(seconds) == set(range(least, most + 1))
    return f"{least} to {most} s" if is_range else f"{_some([str(each) for each in seconds])} s"


def _prices(offer: ModelOffer) -> str:
    return _some([f"{name} {price}" for name, price in offer.plain_prices.items()], 2) or "not said"


def _some(values: Sequence[str], most: int = _MOST_VALUES) -> str:
    more = f" +{len(values) - most}" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def say_model(offer: OfferedModel) -> Iterator[str]:
    """What a model takes besides sizes, lengths and images."""
    if offer.aspect_ratios:
        yield f"Ratios: {', '.join(offer.aspect_ratios)}."
    if offer.resolutions:
        yield f"Resolutions: {', '.join(offer.resolutions)}."
    if offer.audio is not None:
        yield "It makes sound." if offer.audio else "It makes no sound."
    if offer.seed is not None:
        yield "It takes a seed." if offer.seed else "It takes no seed."
    if offer.prices:
        prices = ", ".join(f"{name} {price}" for name, price in offer.prices.items())
        yield f"Prices, as the gateway names them: {prices}."
