"""What the models of an upstream accept, as text: one line each, and one model in full. Only plain values are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sora_mcp.core.capabilities import ModelOffer
from sora_mcp.core.description import OfferedModel
from sora_mcp.core.tasks import is_plain_id
from sora_mcp.tools.wording import Wording

MAX_MODELS = 12
"""Models that get a line; the others are counted."""
_MAX_VALUES = 4
"""Values of one column in a line."""
COLUMNS = ("model", "sizes", "lengths", "images", "sound", "prices")


def render_offers(offers: Sequence[ModelOffer], wording: Wording) -> Iterator[str]:
    """Render a line for each model, and how to see one in full."""
    plain = [offer for offer in offers if is_plain_id(offer.id)]
    if not plain:
        return
    yield from wording.table("Models", COLUMNS, [_line(offer) for offer in plain[:MAX_MODELS]])
    more = f"{len(plain) - MAX_MODELS} more are in the list. " if len(plain) > MAX_MODELS else ""
    yield f"{more}Use {wording.argument('model')} to see one in full."


def _line(offer: ModelOffer) -> tuple[str, ...]:
    frames = " and ".join(name.partition("_")[0] for name in offer.frame_images or ())
    images = "not said" if offer.frame_images is None else frames or "references"
    sound = {None: "not said", True: "yes", False: "no"}[offer.audio]
    if offer.needs_video:
        return offer.id, "none: it only enlarges videos", "", "", "", _prices(offer)
    return offer.id, _sizes(offer), _lengths(offer.seconds), images, sound, _prices(offer)


def _sizes(offer: ModelOffer) -> str:
    ratios = _join_first(offer.aspect_ratios or ())
    if offer.resolutions:
        return _join_first(offer.resolutions) + (f" in {ratios}" if ratios else "")
    return _join_first([f"{width}x{height}" for width, height in offer.sizes or ()]) or ratios or "not said"


def _lengths(seconds: tuple[int, ...] | None) -> str:
    if not seconds:
        return "not said"
    shortest, longest = min(seconds), max(seconds)
    is_range = len(seconds) > 2 and set(seconds) == set(range(shortest, longest + 1))
    return f"{shortest} to {longest} s" if is_range else f"{_join_first([str(each) for each in seconds])} s"


def _prices(offer: ModelOffer) -> str:
    return _join_first([f"{name} {price}" for name, price in offer.plain_prices.items()], 2) or "not said"


def _join_first(values: Sequence[str], limit: int = _MAX_VALUES) -> str:
    more = f" +{len(values) - limit}" if len(values) > limit else ""
    return ", ".join(values[:limit]) + more


def render_model(offer: OfferedModel) -> Iterator[str]:
    """Render what a model accepts besides sizes, lengths and images."""
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
