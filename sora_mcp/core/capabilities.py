"""What an upstream takes and what that costs, as plain values that a request is checked against, and what is sent
instead of what was asked for where it has no words for that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from sora_mcp.core.cost import RELATIVE, Cost, Unit

Support = Literal["exact", "lowered", "by_reference", "bridged", "impossible"]
"""What an operation becomes: said as it is; said in the prompt; its source sent along as a reference; its sources' last
and first frames sent; or refused."""

Images = Literal["any", "none", "first", "first_and_last", "references"]
"""At which frames images may stand."""

OPERATIONS = ("simple_compose", "storyboard", "remix", "blend")


def verb_of(operation: str) -> str:
    """What people call an operation of the documented body."""
    return "create" if operation == "simple_compose" else operation


class Size(Struct, frozen=True):
    """A frame size; `cost` is relative to 480x480 at 5 s."""

    aspect: str
    resolution: str
    cost: float


class ModelOffer(Struct, frozen=True, kw_only=True):
    """What one of an upstream's models takes, as the upstream lists it. None: not restricted, or not known.

    `sizes` in pixels; `resolutions` and `aspect_ratios` in the upstream's words; `seconds`: the lengths.
    `frame_images`: the frames at which images go, of `first_frame` and `last_frame`. `audio`: it makes sound; `seed`:
    it takes one. `continues`: it goes on from an earlier video; `takes_videos`: as a reference; `needs_video`: it makes
    none from texts. `prices`: the names of what is charged, with what that costs, both in the upstream's words.
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
        """The prices that may be told: their names are plain words and their amounts numbers, which instructions are
        not."""
        return {
            name: price
            for name, price in self.prices.items()
            if re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", name) and re.fullmatch(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?", price)
        }


class Capabilities(Struct, frozen=True, kw_only=True):
    """What can be asked for. `sizes` (width and height in pixels) and `lengths` (frames) are allowed with their share
    of the relative cost, which is None where no price is known. Texts have `max_prompt_length` characters at most.

    `any_size`, `any_length`: those tables bound nothing. `operations` that are not named are exact. `amount`: how far a
    remix goes can be said. `frame_rule`: in words, what lengths become; `is_rule_guessed`: for a model of which it is
    not known. `models`: the only ones there are, where they
    are known beforehand; `takes_model`: others can be named. `image_bytes`: the largest image that is sent along with a
    request, None where images are uploaded first; `image_links`: those that have an address are not. `offers`: what
    each model takes, where the upstream lists that. `lists_models`: it does, for everybody, whatever the key.
    `has_prices`: costs are known, in `unit`. `opaque_ids`: an id says nothing of what it is of, and a video's own id
    is what others are made from. `outlive_restart`: tasks do.
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
        """What an operation becomes here."""
        return self.operations.get(operation, "exact")

    def can(self, operation: str) -> bool:
        """Whether an operation is possible here, in whatever words."""
        return self.support(operation) != "impossible"

    def rules(self) -> list[str]:
        """What is to be known besides the tables, in sentences; nothing where they say it all."""
        images = {"none": "Images are not accepted.", "first": "One image is accepted, at the first frame."}
        images["first_and_last"] = "Two images are accepted, at the first and the last frame."
        images["references"] = "Images are accepted as references."
        makes_nearest = self.any_size and not self.lists_models
        rules = [
            "Any size is accepted; the model makes the nearest that it can." if makes_nearest else "",
            f"Lengths become {self.frame_rule}." if self.frame_rule else "",
            "That is a guess: no rule is known for the model that is set." if self.is_rule_guessed else "",
            images.get(self.images, ""),
            "" if self.amount else "How far a remix departs from its source cannot be set.",
            "" if self.outlive_restart else "Videos are lost when the server ends: save what is finished.",
            "" if self.has_prices else "No price is known.",
        ]
        return [each for each in rules if each]

    def extended(
        self, sizes: Iterable[tuple[int, int]] = (), lengths: Iterable[int] = (), *, max_variants: int, max_prompt: int
    ) -> Capabilities:
        """The same with what this installation's settings add, at no known price."""
        return replace(
            self,
            sizes=dict.fromkeys(sizes) | dict(self.sizes),
            lengths=dict.fromkeys(lengths) | dict(self.lengths),
            max_variants=max_variants,
            max_prompt_length=max_prompt,
        )

    def cost(self, width: int, height: int, n_frames: int, n_variants: int) -> Cost | None:
        """Relative cost (480x480, 5 s, one variant = 1.0), or None for a size or length outside the price list.

        Several variants count as that many times one: an upper guess, the real price is not known.
        """
        size, factor = self.sizes.get((width, height)), self.lengths.get(n_frames)
        if size is None or factor is None:
            return None
        return Cost.of(round(size.cost * factor * n_variants, 2), self.unit)


AdjustedField = Literal[
    "size", "n_frames", "actions", "prompt", "source_generation_id", "inpaint_items", "seed", "generate_audio"
]
"""Our word for what was adjusted; `size` is width and height together, the last two are settings."""

NOT_GIVEN = "not given"
LEFT_OPEN = "the upstream's default"


class Adjustment(Struct, frozen=True):
    """One thing that was `asked` for, and what is `sent` in its place, both in words.

    `size` (width and height, in pixels) and `n_frames` (of 1/30 s) are what is sent, where that is a size or a length
    that is known.
    """

    field: AdjustedField
    asked: str
    sent: str
    size: tuple[int, int] | None = None
    n_frames: int | None = None

    @classmethod
    def read(cls, value: Any) -> Adjustment:
        """One out of a record. Raises KeyError, TypeError or ValueError."""
        size, n_frames = value.get("size"), value.get("n_frames")
        if size is not None:
            width, height = size
            size = (int(width), int(height))
        n_frames = None if n_frames is None else int(n_frames)
        return cls(value["field"], str(value["asked"]), str(value["sent"]), size, n_frames)
