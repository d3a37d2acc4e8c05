"""The description of a gateway: what can be requested and what that becomes, the caps, and what was spent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sora_mcp.core.advice import Advice, Message
from sora_mcp.core.capabilities import ModelOffer, Support
from sora_mcp.core.models import Model, Unlisted
from sora_mcp.core.results import OtherCost

Status = Literal["ok", "key_refused", "unreachable", "trouble", "not_asked", "not_configured"]
"""The result of asking the gateway now. `ok`: it answered and accepted the key. `key_refused`: it refused the key.
`unreachable`: it could not be reached. `trouble`: it answered something else, or too late. `not_asked`: the ledger
cannot be read. `not_configured`: there is no gateway to ask."""


class OfferedSize(Model):
    """A size in pixels. `cost` is for a length with factor 1 and one variant; None if no price is known."""

    width: int
    height: int
    cost: float | None = None


class OfferedLength(Model):
    """A length in frames and in seconds. `factor` multiplies the cost of a size."""

    n_frames: int
    seconds: float
    factor: float | None = None


class OfferedModel(Model):
    """What the models called `names` accept; without `names`, whatever model the gateway uses.

    The other fields are set if the gateway lists what each model accepts, in its own terms (see `ModelOffer`).
    """

    names: list[str] | None = None
    sizes: list[OfferedSize]
    lengths: list[OfferedLength]
    resolutions: Annotated[list[str] | None, Unlisted()] = None
    aspect_ratios: Annotated[list[str] | None, Unlisted()] = None
    frame_images: Annotated[list[str] | None, Unlisted()] = None
    audio: Annotated[bool | None, Unlisted()] = None
    seed: Annotated[bool | None, Unlisted()] = None
    prices: Annotated[dict[str, str] | None, Unlisted()] = None


class Spent(Model):
    """What counts toward the caps: costs of the last 24 hours, relative or in the currency `unit`. `uncertain` is what
    requests of unknown outcome may have cost; `cost` does not include it. `unpriced` requests have no known cost in
    this unit. `other_costs` are in other units and count toward no cap. `under_way` and `unknown` are numbers of
    videos."""

    cost: float
    uncertain: float
    unit: Annotated[str | None, Unlisted()] = None
    unpriced: Annotated[int | None, Unlisted()] = None
    other_costs: Annotated[list[OtherCost] | None, Unlisted()] = None
    under_way: int
    unknown: int


class Description(Model):
    """A gateway, as far as it is known. `listed_models` are names from the gateway: data.

    `notice` applies to everything made there, and `explanation` says what it means. `operations` are grouped by what
    they become here (see `Support`); `rules` are further limits. `caps` are those that are set, one in a currency as it
    is written (`5 USD`), and what is left of them (`left_today`, `places_left`, `calls_left`), counting unknown
    outcomes as if they had run. On a shared server these are the caller's own, and `team_…` apply to all together.
    `offers`: all models, if the gateway lists what each accepts; `models` then has the one that is set or asked about.
    `is_dialect_implied`: the host determined the dialect. `problems` say what could not be found out and why, `advice`
    what to do about it.
    """

    gateway: str
    dialect: str
    status: Status
    notice: str | None = None
    explanation: str | None = Field(default=None, exclude=True)
    operations: dict[Support, list[str]]
    models: list[OfferedModel]
    listed_models: list[str] | None = None
    rules: list[str] | None = None
    max_variants: int
    max_prompt_length: int
    spent: Spent | None = None
    caps: dict[str, float | str]
    offers: tuple[ModelOffer, ...] = Field(default=(), exclude=True)
    is_dialect_implied: bool = Field(default=False, exclude=True)
    problems: tuple[Message, ...] = Field(default=(), exclude=True)
    advice: tuple[Advice, ...] = Field(default=(), exclude=True)
