"""The moving landscape that the sandbox draws for a prompt; the same prompt gives the same landscape."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace
from PIL import Image, ImageDraw, ImageFilter

Rgb = tuple[int, int, int]


class Palette(Struct, frozen=True):
    """Colours of the sky from top to horizon, of the sun or moon, and of the land from far to near."""

    sky: tuple[Rgb, Rgb, Rgb]
    light: Rgb
    land: tuple[Rgb, Rgb, Rgb]
    stars: bool = False
    snow: bool = False
    sea: bool = False
    city: bool = False


_PALETTES: tuple[tuple[tuple[str, ...], Palette], ...] = (
    (
        ("night", "star", "moon", "dark", "midnight"),
        Palette(
            ((6, 10, 34), (18, 28, 70), (52, 62, 112)),
            (236, 238, 222),
            ((36, 44, 86), (22, 28, 60), (10, 13, 32)),
            stars=True,
        ),
    ),
    (
        ("snow", "winter", "ice", "frost"),
        Palette(
            ((116, 144, 180), (176, 196, 216), (228, 230, 232)),
            (255, 250, 232),
            ((190, 204, 222), (148, 168, 196), (234, 240, 246)),
            snow=True,
        ),
    ),
    (
        ("sunset", "sunrise", "dawn", "dusk", "evening", "warm", "golden"),
        Palette(
            ((52, 38, 92), (208, 96, 92), (252, 188, 110)),
            (255, 236, 170),
            ((150, 74, 100), (96, 46, 84), (40, 24, 52)),
        ),
    ),
    (
        ("city", "street", "neon", "tokyo", "skyline"),
        Palette(
            ((20, 18, 48), (84, 44, 108), (214, 104, 138)),
            (255, 210, 190),
            ((70, 50, 104), (44, 32, 76), (18, 14, 38)),
            stars=True,
            city=True,
        ),
    ),
    (
        ("forest", "jungle", "tree", "garden", "green"),
        Palette(
            ((96, 158, 178), (164, 206, 190), (232, 236, 196)),
            (255, 250, 214),
            ((104, 152, 122), (60, 112, 84), (24, 62, 48)),
        ),
    ),
    (
        ("",),
        Palette(
            ((62, 124, 196), (136, 186, 226), (228, 236, 226)),
            (255, 248, 214),
            ((122, 158, 176), (84, 128, 124), (40, 82, 74)),
        ),
    ),
)


class _Variation(Struct, frozen=True):
    """How one variant differs from the others: the light moves from `start` to `end` (fractions of the width) in an arc
    of `arc` (a fraction of the height), and red, green and blue are multiplied by `colours`."""

    start: float = 0.24
    end: float = 0.66
    arc: float = 0.12
    colours: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def light_at(self, position: float) -> float:
        """The position of the light, as a fraction of the width."""
        return self.start + (self.end - self.start) * position


_VARIATIONS = (
    _Variation(),
    _Variation(0.80, 0.42, 0.06, (1.1, 0.96, 0.84)),
    _Variation(0.10, 0.34, 0.20, (0.86, 0.98, 1.12)),
    _Variation(0.52, 0.86, 0.02, (1.04, 0.88, 1.06)),
)


def _variation(variant: int) -> _Variation:
    return _VARIATIONS[(variant - 1) % len(_VARIATIONS)]


_SEA_KEYWORDS = ("sea", "ocean", "boat", "ship", "beach", "coast", "lighthouse", "water", "lake", "river")


def palette_for(prompt: str, variant: int) -> Palette:
    """The palette whose keywords are in the prompt, or a plain day; slightly different in each variant."""
    text = prompt.lower()
    palette = next(candidate for keywords, candidate in _PALETTES if any(keyword in text for keyword in keywords))
    top, middle, horizon = (_tint(colour, variant) for colour in palette.sky)
    far, between, near = (_tint(colour, variant) for colour in palette.land)
    has_sea = any(keyword in text for keyword in _SEA_KEYWORDS)
    return replace(palette, sky=(top, middle, horizon), land=(far, between, near), sea=has_sea)


def tint_for(variant: int) -> Rgb:
    """The colour by which a variant multiplies a picture: white for the first."""
    return _tint((225, 225, 225), variant) if variant > 1 else (255, 255, 255)


def _tint(colour: Rgb, variant: int) -> Rgb:
    red, green, blue = (
        min(255, round(value * factor)) for value, factor in zip(colour, _variation(variant).colours, strict=True)
    )
    return red, green, blue


Overlay = tuple[Image.Image, tuple[int, int], Image.Image | None]
"""A picture, the position of its upper left corner on another one, and its mask; None: opaque."""


def trim(layer: Image.Image) -> Overlay:
    """Crop the transparent margins of a layer: a smaller one is pasted faster."""
    box = layer.getbbox() or (0, 0, 1, 1)
    cropped = layer.crop(box)
    return cropped.convert("RGB"), box[:2], cropped.getchannel("A")


class Landscape:
    """Layers painted once; `frame` only moves them. Sizes in pixels; `light_variant` overrides the light's variant."""

    def __init__(self, prompt: str, variant: int, width: int, height: int, *, light_variant: int | None = None) -> None:
        digest = hashlib.sha256(f"{prompt}#{variant}".encode()).digest()
        self._random = random.Random(digest)  # noqa: S311 - a picture, not a secret
        self._palette, self._variation = palette_for(prompt, variant), _variation(light_variant or variant)
        self._width, self._height = width, height
        self._horizon = int(height * 0.66)
        self._sky = self._paint_sky()
        self._light = self._paint_light()
        self._overscan = int(width * 1.5) - width
        self._layers = [trim(self._paint_hills(depth)) for depth in range(3)]
        self._flakes = [
            (self._random.random(), self._random.random(), self._random.uniform(0.4, 1.0)) for _ in range(90)
        ]

    def frame(self, position: float) -> Image.Image:
        """Draw the picture at `position`, 0 (first frame) to 1 (last)."""
        image = self._sky.copy()
        x = int(self._width * self._variation.light_at(position)) - self._light.width // 2
        y = int(self._height * (0.38 - self._variation.arc * math.sin(math.pi * position))) - self._light.height // 2
        image.paste(self._light, (x, y), self._light)
        for depth, layer in enumerate(self._layers):
            if depth == 1 and self._palette.sea:
                self._paint_sea(image, position)
            hills, (left, top), mask = layer
            image.paste(hills, (left - int(self._overscan * position * (depth + 1) / 3), top), mask)
        if self._palette.snow:
            self._paint_snow(image, position)
        return image

    def _paint_sky(self) -> Image.Image:
        column = Image.new("RGB", (1, 3))
        column.putdata(list(self._palette.sky))
        sky = column.resize((self._width, self._height), Image.Resampling.BICUBIC, box=(0, 0.5, 1, 2.5))
        if self._palette.stars:
            draw = ImageDraw.Draw(sky)
            for _ in range(self._width * self._height // 2600):
                x, y = self._random.randrange(self._width), int(self._random.random() ** 1.6 * self._horizon)
                bright = self._random.randrange(120, 256)
                size = self._random.choice((0, 0, 0, 1))
                draw.ellipse((x, y, x + size, y + size), fill=(bright, bright, min(255, bright + 12)))
        return sky

    def _paint_light(self) -> Image.Image:
        radius = max(14, min(self._width, self._height) // 13)
        side = radius * 7
        mask = Image.new("L", (side, side), 0)
        draw, middle = ImageDraw.Draw(mask), side // 2
        draw.ellipse(
            (middle - radius * 1.5, middle - radius * 1.5, middle + radius * 1.5, middle + radius * 1.5), fill=120
        )
        mask = mask.filter(ImageFilter.GaussianBlur(radius * 0.8))
        draw = ImageDraw.Draw(mask)
        draw.ellipse((middle - radius, middle - radius, middle + radius, middle + radius), fill=255)
        mask = mask.filter(ImageFilter.GaussianBlur(1))
        light = Image.new("RGBA", (side, side), (*self._palette.light, 0))
        light.putalpha(mask)
        return light

    def _paint_hills(self, depth: int) -> Image.Image:
        width = self._width + self._overscan
        layer = Image.new("RGBA", (width, self._height), (0, 0, 0, 0))
        base = self._horizon + (depth - 1) * self._height * 0.13
        waves = [
            (
                self._random.uniform(0.6, 1.0) / (i + 1),
                self._random.uniform(1.2, 2.4) * (i + 1) * 1.7,
                self._random.random() * 6.3,
            )
            for i in range(4)
        ]
        amplitude = self._height * (0.16 - 0.03 * depth)
        points = [
            (float(x), base - amplitude * sum(a * math.sin(f * 3.1 * x / width + p) for a, f, p in waves) / 1.6)
            for x in range(0, width + 6, 6)
        ]
        draw = ImageDraw.Draw(layer)
        draw.polygon([(0, self._height), *points, (width, self._height)], fill=(*self._palette.land[depth], 255))
        if self._palette.city and depth > 0:
            self._draw_towers(draw, base, width, depth)
        elif depth == 2:
            self._draw_trees(draw, points)
        return layer

    def _draw_towers(self, draw: ImageDraw.ImageDraw, base: float, width: int, depth: int) -> None:
        """Draw a row of towers with lit windows; the near row is lower, so that both are visible."""
        unit = max(4, min(self._width, self._height) // 110)
        x = 0
        while x < width:
            tower_width = unit * self._random.randrange(8, 17)
            top = int(base + self._height * (0.02 - self._random.uniform(0.05, 0.34 - 0.1 * depth)))
            draw.rectangle((x, top, x + tower_width, self._height), fill=(*self._palette.land[depth], 255))
            for left in range(x + unit, x + tower_width - unit, 2 * unit):
                for y in range(top + unit, self._height, 3 * unit):
                    if self._random.random() < 0.16 * depth:
                        draw.rectangle((left, y, left + unit - 1, y + unit), fill=self._window_colour(depth))
            x += tower_width + unit * self._random.choice((0, 0, 1, 4))

    def _window_colour(self, depth: int) -> tuple[int, int, int, int]:
        """The colour of a window: between its wall and the light, brighter if it is nearer."""
        share = self._random.uniform(0.24, 0.5) * (depth + 1) / 2
        red, green, blue = (
            int(wall * (1 - share) + light * share)
            for wall, light in zip(self._palette.land[depth], self._palette.light, strict=True)
        )
        return red, green, blue, 255

    def _draw_trees(self, draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]]) -> None:
        shade = (*(max(0, value - 16) for value in self._palette.land[2]), 255)
        for x, y in self._random.sample(points, min(26, len(points))):
            tree_height = self._height * self._random.uniform(0.05, 0.11)
            for step in range(3):
                half = tree_height * (0.20 + 0.07 * step)
                top = y - tree_height + step * tree_height * 0.26
                draw.polygon(
                    [(x, top), (x - half, top + tree_height * 0.42), (x + half, top + tree_height * 0.42)], fill=shade
                )

    def _paint_sea(self, image: Image.Image, position: float) -> None:
        draw = ImageDraw.Draw(image, "RGBA")
        top, far = self._horizon - int(self._height * 0.04), self._palette.sky[1]
        for y in range(top, self._height, 2):
            deep = (y - top) / (self._height - top)
            draw.rectangle((0, y, self._width, y + 2), fill=(*(int(v * (0.86 - 0.5 * deep)) for v in far), 255))
        light = int(self._width * self._variation.light_at(position))
        for row in range(22):
            y = top + 3 + row * (self._height - top) // 24
            swing = math.sin(position * 26 + row * 1.7)
            half = self._width * (0.015 + 0.0042 * row) * (1 + 0.45 * swing)
            x = light + swing * self._width * 0.012
            draw.line((x - half, y, x + half, y), fill=(*self._palette.light, 130 - row * 4), width=2)

    def _paint_snow(self, image: Image.Image, position: float) -> None:
        draw = ImageDraw.Draw(image, "RGBA")
        for x, y, near in self._flakes:
            at_y = (y + position * 2.2 * near) % 1 * self._height
            at_x = (x + 0.03 * math.sin(position * 12 + y * 20)) % 1 * self._width
            size = 1 + near * self._height / 240
            draw.ellipse((at_x, at_y, at_x + size, at_y + size), fill=(255, 255, 255, int(120 + 120 * near)))
