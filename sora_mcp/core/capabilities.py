"""What an upstream takes and what that costs, as plain values that a request is checked against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Support = Literal["exact", "lowered", "by_reference", "bridged", "impossible"]
"""What an operation becomes: said as it is; said in the prompt; its source sent along as a reference; its sources' last
and first frames sent; or refused."""

OPERATIONS = ("simple_compose", "storyboard", "remix", "blend")


@dataclass(frozen=True, slots=True)
class Size:
    """A frame size; `cost` is relative to 480x480 at 5 s."""

    aspect: str
    resolution: str
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What can be asked for. `sizes` (width and height in pixels) and `lengths` (frames) are allowed with their share
    of the relative cost, which is None where no price is known. Texts have `max_prompt_length` characters at most.

    `operations` that are not named are exact. `models`: the only ones there are, where that is known beforehand.
    """

    sizes: Mapping[tuple[int, int], Size | None]
    lengths: Mapping[int, float | None]
    max_variants: int = 4
    max_prompt_length: int = 10_000
    operations: Mapping[str, Support] = field(default_factory=dict)
    models: tuple[str, ...] = ()

    def support(self, operation: str) -> Support:
        """What an operation becomes here."""
        return self.operations.get(operation, "exact")

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

    def cost(self, width: int, height: int, n_frames: int, n_variants: int) -> float | None:
        """Relative cost (480x480, 5 s, one variant = 1.0), or None for a size or length outside the price list.

        Several variants count as that many times one: an upper guess, the real price is not known.
        """
        size, factor = self.sizes.get((width, height)), self.lengths.get(n_frames)
        return None if size is None or factor is None else round(size.cost * factor * n_variants, 2)
