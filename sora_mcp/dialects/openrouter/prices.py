"""The cost of a request by OpenRouter's prices (`pricing_skus`), and what a job cost in the end (`usage.cost`); in USD.

The names of the prices are not documented. Those that are read here occur in public code that uses the list of models;
if the list has any other name, no price is known: it may be a fee on top.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sora_mcp.core.cost import Cost, Estimate

if TYPE_CHECKING:
    from decimal import Decimal

USD = "USD"
_PIXELS_PER_TOKEN = 1024
_RATE_NAME = re.compile(
    r"((?:text|image)_to_video_)?"
    r"(duration_seconds|per_video_second|cents_per_second_output|cents_per_video_output_second|video_tokens)"
    r"((?:_[0-9]{1,2}k|_[0-9]{3,4}p|_with_audio|_without_audio|_with_video_input|_without_video_input)*)"
)
_FEES = {"reference_images", "cents_per_image_input"}
"""Fees for each image that is sent."""
_MINIMUM = "minimum_cents_per_generation"
_LINES_BY_NAME = {"2k": "1440p", "4k": "2160p", "8k": "4320p"}
_LINES_PER_K = 540
"""As in 4K. Some mean more by 1K; the smaller number keeps its price among those that may apply."""
_STANDARD_RESOLUTIONS = {"360p", "480p", "540p", "720p", "768p", "1080p", "2160p"}
"""Resolutions to which a price for a higher one certainly does not apply. Not 1440p: 2K has several meanings."""
_MAX_ASPECT_RATIO = 1.82
"""Ratio of the longer to the shorter side up to which the shorter side tells the resolution: 16:9, and 864x480."""


class Job(Struct, frozen=True, kw_only=True):
    """The parts of a request that affect its price. Sizes in pixels, None if they are not known; `resolution` as the
    gateway writes it (`720p`, `4K`), None for that of the size. `audio`: None if it is left to the gateway. `images`:
    how many are sent; `has_video`: a video is sent. `is_longest`, `is_largest`: the length and the size are not known,
    and the values are the maximum that the model makes.
    """

    seconds: float
    n_frames: int
    width: int | None = None
    height: int | None = None
    resolution: str | None = None
    audio: bool | None = None
    images: int = 0
    has_video: bool = False
    is_longest: bool = False
    is_largest: bool = False

    @property
    def lines(self) -> str | None:
        """The resolution by its lines, such as `720p`; None if it is not known."""
        if self.is_largest:
            return None
        if self.resolution is not None:
            name = self.resolution.lower()
            return _LINES_BY_NAME.get(name, name)
        return f"{min(self.width, self.height)}p" if self.width and self.height else None

    @property
    def is_standard(self) -> bool:
        """Whether its resolution is a usual one, by name or by a size that is not wider than usual."""
        is_usual = self.resolution is not None or (
            self.width
            and self.height
            and max(self.width, self.height) <= _MAX_ASPECT_RATIO * min(self.width, self.height)
        )
        return bool(is_usual) and self.lines in _STANDARD_RESOLUTIONS


class _Rate(Struct, frozen=True):
    """One price: per second, or (`is_token`) per token. `parts`: what it is for, by its name."""

    value: Decimal | None
    parts: frozenset[str]
    is_token: bool

    @property
    def resolutions(self) -> frozenset[str]:
        """Those of its parts that are resolutions; empty if it is for any."""
        return frozenset(part for part in self.parts if part[0].isdigit())


def estimate(skus: object, job: Job) -> Estimate | None:
    """Return the cost of a job: by the most specific price that fits it, the highest of several such. If it is not
    certain which resolution is charged, by the highest price of all that may be.

    None if no price is known: none fits, one that is needed is not an amount above 0, or a name cannot be read.
    """
    if not isinstance(skus, Mapping) or not all(isinstance(name, str) for name in skus):
        return None
    by_name = {name.strip().lower().replace("-", "_"): value for name, value in skus.items()}
    if not all(_RATE_NAME.fullmatch(name) or name in {*_FEES, _MINIMUM} for name in by_name):
        return None
    if job.images and not _FEES.isdisjoint(by_name):
        return None
    rates = [rate for rate in _rates(by_name) if _fits(rate, job)]
    charged = _charged_resolutions(rates, job)
    reason = _reason(job) if len(charged) > 1 else ""
    estimates = [_apply_rate(rate, job, reason) for each in charged for rate in _most_specific(rates, each)]
    dearest: Estimate | None = None
    for each in estimates:
        if each is None:
            return None
        dearest = each if dearest is None or each.cost > dearest.cost else dearest
    return dearest if dearest is None or _MINIMUM not in by_name else _with_minimum(dearest, by_name[_MINIMUM])


def usage_cost(body: object) -> Cost | None:
    """Return the cost of a job that a reply states; None if that is not an amount, or if the provider charges the
    user's own key (`is_byok`): OpenRouter's figure leaves that out."""
    usage = body.get("usage") if isinstance(body, Mapping) else None
    if not isinstance(usage, Mapping) or usage.get("is_byok") is True:
        return None
    amount = usage.get("cost")
    return Cost.from_gateway(amount, USD) if not isinstance(amount, str) else None


def _rates(skus: Mapping[str, Any]) -> Iterator[_Rate]:
    for name, value in skus.items():
        match = _RATE_NAME.fullmatch(name)
        if match is None:
            continue
        mode, unit, suffixes = match.groups()
        parts = re.findall(r"_((?:with|without)_(?:audio|video_input)|[0-9]+[kp])", suffixes)
        all_parts = {_LINES_BY_NAME.get(part, part) for part in parts} | ({mode} if mode else set())
        yield _Rate(_price(value, is_cents=unit.startswith("cents")), frozenset(all_parts), unit == "video_tokens")


def _price(value: object, *, is_cents: bool) -> Decimal | None:
    """Return a price in USD; None if it is not a number, 0 or less, not finite, or more than any video costs."""
    from decimal import Decimal  # noqa: PLC0415 - see core.cost

    cost = Cost.from_gateway(value, USD)
    if cost is None or not cost.billionths:
        return None
    price = Decimal(str(value))
    return price / 100 if is_cents else price


def _fits(rate: _Rate, job: Job) -> bool:
    """Whether a price applies to such a job, whatever its resolution. Audio that is left to the gateway may be on."""
    fitting = {
        "without_audio" if job.audio is False else "with_audio",
        "with_video_input" if job.has_video else "without_video_input",
        "image_to_video_" if job.images else "text_to_video_",
    }
    return rate.parts - rate.resolutions <= fitting


def _charged_resolutions(rates: list[_Rate], job: Job) -> list[frozenset[str]]:
    """Return the resolutions that may be charged for a job; an empty set means any without a price of its own.

    A resolution that has a price is certain. A usual one that has none is charged as any, or as a lower one that has
    (so that no price fits if all are for others). If it is another one, or not known, each one that has a price may be.
    """
    priced = list(dict.fromkeys(rate.resolutions for rate in rates))
    lines, as_any = job.lines, frozenset[str]()
    if lines is not None and any(lines in each for each in priced):
        return [frozenset({lines})]
    if not job.is_standard or lines is None:
        return list(dict.fromkeys([as_any, *priced]))
    if as_any not in priced:
        return [as_any]
    return [each for each in priced if all(_line_count(part) < _line_count(lines) for part in each)]


def _line_count(resolution: str) -> int:
    """Return the number of lines of `720p` or `3k`."""
    return int(resolution[:-1]) * (_LINES_PER_K if resolution.endswith("k") else 1)


def _most_specific(rates: list[_Rate], charged: frozenset[str]) -> list[_Rate]:
    fitting = [rate for rate in rates if rate.resolutions <= charged]
    max_parts = max((len(rate.parts) for rate in fitting), default=0)
    return [rate for rate in fitting if len(rate.parts) == max_parts]


def _reason(job: Job) -> str:
    cause = "the resolution is not known" if job.lines is None else "none is for this exact resolution"
    return f" (the highest price, since {cause})"


def _apply_rate(rate: _Rate, job: Job, reason: str) -> Estimate | None:
    if rate.value is None:
        return None
    price = _format_price(rate.value)
    longest = " (the model's longest)" if job.is_longest else ""
    largest = " (the model's largest)" if job.is_largest else ""
    if not rate.is_token:
        cost, formula = rate.value * _decimal(job.seconds), f"{job.seconds:g} s{longest} x {price} a second"
    elif job.width and job.height:
        cost = rate.value * job.width * job.height * job.n_frames / _PIXELS_PER_TOKEN
        pixels, frames = f"{job.width} x {job.height}{largest}", f"{job.n_frames} frames{longest}"
        formula = f"{pixels} x {frames} / {_PIXELS_PER_TOKEN} x {price} a token"
    else:
        return None
    stated = Cost.from_gateway(str(cost), USD)
    return Estimate(stated, f"{formula}{reason} = {stated}") if stated is not None and stated.billionths else None


def _with_minimum(base: Estimate, cents: object) -> Estimate | None:
    minimum = _price(cents, is_cents=True)
    if minimum is None:
        return None
    cost = Cost.of(minimum, USD)
    return Estimate(cost, f"{base.formula}, but at least {cost}") if cost > base.cost else base


def _decimal(seconds: float) -> Decimal:
    from decimal import Decimal  # noqa: PLC0415 - see core.cost

    return Decimal(str(seconds))


def _format_price(price: Decimal) -> str:
    """Return a price with all its digits, two decimals at least."""
    whole, _, parts = f"{price:f}".partition(".")
    return f"{whole}.{parts.rstrip('0').ljust(2, '0')} {USD}"
