"""The documented tables: sizes, lengths and what they cost relative to each other. Plain data; loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

FPS = 30
"""Frames per second of every video (create page: 150 frames = 5 s, 300 = 10 s)."""


@dataclass(frozen=True, slots=True)
class Size:
    """A documented frame size; `cost` is relative to 480x480 at 5 s (one public price list)."""

    aspect: str
    resolution: str
    cost: float


SIZES: dict[tuple[int, int], Size] = {
    (480, 480): Size("1:1", "480p", 1.0),
    (720, 720): Size("1:1", "720p", 1.5),
    (480, 854): Size("9:16", "480p", 1.25),
    (854, 480): Size("16:9", "480p", 1.25),
    (720, 1280): Size("9:16", "720p", 3.0),
    (1280, 720): Size("16:9", "720p", 3.0),
}
"""Width and height in pixels → size (create page)."""

DURATIONS: dict[int, float] = {150: 1.0, 300: 2.0}
"""Frames → cost factor (create page; the factor from one public price list)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What this installation accepts: the documented tables, extended by settings."""

    extra_sizes: tuple[tuple[int, int], ...] = ()
    extra_frames: tuple[int, ...] = ()
    max_variants: int = 4
    max_prompt_length: int = 10_000

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return sorted({*SIZES, *self.extra_sizes})

    @property
    def frames(self) -> list[int]:
        return sorted({*DURATIONS, *self.extra_frames})
