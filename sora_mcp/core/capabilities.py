"""What an upstream accepts and what that costs, as plain values that a request is checked against, and what is sent
instead of a value that the upstream cannot express."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from sora_mcp.core.cost import RELATIVE, Cost, Unit

Support = Literal["exact", "lowered", "by_reference", "bridged", "impossible"]
"""What an operation becomes. `exact`: sent as it is. `lowered`: put into the prompt. `by_reference`: its source is sent
as a reference. `bridged`: its sources' last and first frames are sent. `impossible`: refused."""

Images = Literal["any", "none", "first", "first_and_last", "references"]
"""At which frames images may be placed."""

OPERATIONS = ("simple_compose", "storyboard", "remix", "blend")


def verb_of(operation: str) -> str:
    """Return the common name of an operation of the documented body."""
    return "create" if operation == "simple_compose" else operation


class Size(Struct, frozen=True):
    """A frame size. `cost` is relative to 480x480 at 5 s."""

    aspect: str
    resolution: str
    cost: float


class ModelOffer(Struct, frozen=True, kw_only=True):
    """What one of an upstream's models accepts, as the upstream lists it. None: not restricted, or not known.

    `sizes` are in pixels; `resolutions` and `aspect_ratios` in the upstream's terms; `seconds` are the lengths.
    `frame_images`: the frames at which images may be placed, of `first_frame` and `last_frame`. `audio`: it makes
    sound; `seed`: it accepts one. `continues`: it can continue an earlier video; `takes_videos`: it accepts videos as
    references; `needs_video`: it makes none from text. `prices`: what is charged, with its price, both in the
    upstream's terms.
    """

    id: str
    name: str = ""
    sizes: tuple[tuple[int, int], ...] | None = None
    resolutions: tuple[str, ...] | None = None
    aspect_ratios: tuple[str, ...] | None = None
    seconds: tuple[int, ...] | None = None
    frame_images: tuple[str, ...] | None = None
    audio: bool | None = None
    seed: bool | None = None
    continues: bool = False
    takes_videos: bool = False
    needs_video: bool = False
    prices: Mapping[str, str] = field(default_factory=dict)

    @property
    def plain_prices(self) -> dict[str, str]:
        """The prices that may be shown: their names are plain words and their amounts numbers, so neither can be an
        instruction."""
        return {
            name: price
            for name, price in self.prices.items()
            if re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", name) and re.fullmatch(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?", price)
        }


class Capabilities(Struct, frozen=True, kw_only=True):
    """What can be requested. `sizes` (width and height in pixels) and `lengths` (frames) are allowed values with their
    share of the relative cost, which is None if no price is known. Texts have at most `max_prompt_length` characters.

    `any_size`, `any_length`: values outside those tables are allowed too. `operations` that are not listed are exact.
    `amount`: how far a remix goes can be set. `frame_rule`: a text that says what lengths become; `is_rule_guessed`:
    the rule of the model is not known. `models`: the only ones, if they are known beforehand; `takes_model`: a request
    may name one. `image_bytes`: the largest image that is sent with a request, None if images are uploaded first;
    `image_links`: images that have an address are sent as links. `offers`: what each model accepts, if the upstream
    lists that. `lists_models`: it does, whatever the key. `has_prices`: costs are known, in `unit`. `opaque_ids`: an id
    does not reveal what it belongs to, and other videos are made from a video's own id. `outlive_restart`: tasks
    survive a restart of the upstream.
    """

    sizes: Mapping[tuple[int, int], Size | None]
    lengths: Mapping[int, float | None]
    max_variants: int = 4
    max_prompt_length: int = 10_000
    any_size: bool = False
    any_length: bool = False
    operations: Mapping[str, Support] = field(default_factory=dict)
    images: Images = "any"
    amount: bool = True
    frame_rule: str = ""
    is_rule_guessed: bool = False
    models: tuple[str, ...] = ()
    takes_model: bool = False
    image_bytes: int | None = None
    image_links: bool = False
    offers: tuple[ModelOffer, ...] = ()
    lists_models: bool = False
    has_prices: bool = True
    unit: Unit = RELATIVE
    opaque_ids: bool = False
    outlive_restart: bool = True
    can_list: bool = False
    can_stop: bool = False

    def support(self, operation: str) -> Support:
        """Return what an operation becomes here."""
        return self.operations.get(operation, "exact")

    def can(self, operation: str) -> bool:
        """Whether an operation is possible here, in whatever form."""
        return self.support(operation) != "impossible"

    def rules(self) -> list[str]:
        """Return the rules that the tables do not show, as sentences."""
        images = {"none": "Images are not accepted.", "first": "One image is accepted, at the first frame."}
        images["first_and_last"] = "Two images are accepted, at the first and the last frame."
        images["references"] = "Images are accepted as references."
        makes_nearest = self.any_size and not self.lists_models
        rules = [
            "Any size is accepted; the model makes the nearest size it can." if makes_nearest else "",
            f"Lengths become {self.frame_rule}." if self.frame_rule else "",
            "That is a guess: no rule is known for the model that is set." if self.is_rule_guessed else "",
            images.get(self.images, ""),
            "" if self.amount else "How far a remix departs from its source cannot be set.",
            "" if self.outlive_restart else "Videos are lost when the server stops: save finished ones.",
            "" if self.has_prices else "No price is known.",
        ]
        return [each for each in rules if each]

    def extended(
        self, sizes: Iterable[tuple[int, int]] = (), lengths: Iterable[int] = (), *, max_variants: int, max_prompt: int
    ) -> Capabilities:
        """Return these capabilities with the sizes and lengths that the settings add, at no known price."""
        return replace(
            self,
            sizes=dict.fromkeys(sizes) | dict(self.sizes),
            lengths=dict.fromkeys(lengths) | dict(self.lengths),
            max_variants=max_variants,
            max_prompt_length=max_prompt,
        )

    def cost(self, width: int, height: int, n_frames: int, n_variants: int) -> Cost | None:
        """Return the relative cost (480x480, 5 s, one variant = 1.0), or None for a size or length without a price.

        Several variants count as that many times one: an upper estimate, as the real price is not known.
        """
        size, factor = self.sizes.get((width, height)), self.lengths.get(n_frames)
        if size is None or factor is None:
            return None
        return Cost.of(round(size.cost * factor * n_variants, 2), self.unit)


AdjustedField = Literal[
    "size", "n_frames", "actions", "prompt", "source_generation_id", "inpaint_items", "seed", "generate_audio"
]
"""What was adjusted. `size` is width and height together; the last two are settings."""

NOT_GIVEN = "not given"
UPSTREAM_DEFAULT = "the upstream's default"


class Adjustment(Struct, frozen=True):
    """One value that was `asked` for, and the one `sent` instead, both as text.

    `size` (width and height, in pixels) and `n_frames` (of 1/30 s) are what is sent, if that is a known size or length.
    """

    field: AdjustedField
    asked: str
    sent: str
    size: tuple[int, int] | None = None
    n_frames: int | None = None

    @classmethod
    def from_record(cls, value: Any) -> Adjustment:
        """Read one from a record. Raises KeyError, TypeError or ValueError."""
        size, n_frames = value.get("size"), value.get("n_frames")
        if size is not None:
            width, height = size
            size = (int(width), int(height))
        n_frames = None if n_frames is None else int(n_frames)
        return cls(value["field"], str(value["asked"]), str(value["sent"]), size, n_frames)
