"""What is told of a gateway: what can be asked for there and what that becomes, the caps, and what was spent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sora_mcp.core.advice import Advice, Message
from sora_mcp.core.capabilities import ModelOffer, Support
from sora_mcp.core.models import Model, Unlisted
from sora_mcp.core.results import OtherCost

Status = Literal["ok", "key_refused", "unreachable", "trouble", "not_asked", "not_configured"]
"""What came of asking the gateway now: it answered and took the key; it refused the key; it could not be reached; it
answered something else, or too late; it was not asked, since the ledger cannot be read; or there is none to ask."""


class OfferedSize(Model):
    """A size in pixels. `cost` is that of a length with factor 1 and one variant; None where no price is known."""

    width: int
    height: int
    cost: float | None = None


class OfferedLength(Model):
    """A length in frames, and in seconds. `factor`: by how much it multiplies a size's cost."""

    n_frames: int
    seconds: float
    factor: float | None = None


class OfferedModel(Model):
    """What one or several models take that are named so; without `names`: whatever model the gateway uses.

    The rest is there where the gateway lists what each model takes, in its words (see `ModelOffer`).
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
    """What counts for the caps: costs of the last 24 hours, relative or in the currency `unit`. `uncertain`: what
    requests of unknown outcome may have cost, which is not in `cost`. `unpriced` requests have no known cost there.
    `other_costs` are in other units, and count for no cap. `under_way` and `unknown` are numbers of videos."""

    cost: float
    uncertain: float
    unit: Annotated[str | None, Unlisted()] = None
    unpriced: Annotated[int | None, Unlisted()] = None
    other_costs: Annotated[list[OtherCost] | None, Unlisted()] = None
    under_way: int
    unknown: int


class Description(Model):
    """A gateway, as far as it is known. `listed_models` are names from the gateway: data.

    `notice`: what is to be known of everything that is made there, and `explanation` what that means. `operations`: by
    what they become here (see `Support`), the operations that do; `rules` say what else holds there. `caps` are those
    that are set, one in a currency as it is written (`5 USD`), and what is left of them (`left_today`, `places_left`,
    `calls_left`), where unknown outcomes count as if they had run; where people share a server these are the caller's
    own, and `team_…` what holds for all together. `offers`: all models, where the gateway lists what
    each takes; `models` has the one that is set or asked about then. `is_dialect_implied`: the host told it.
    `problems` say what could not be found out, and why;
    `advice` what to do about that.
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
