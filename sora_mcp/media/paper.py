"""A sheet: pictures in their places, and the words below them."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from sora_mcp.media.drawing import PAPER
from sora_mcp.media.layout import Layout, Place
from sora_mcp.media.letters import WHITE, Ink, cut, text_width, write

SMALLEST = 12
"""Pixels: words that do not fit at that size are cut."""
GREY: Ink = (196, 200, 208, 255)
_MARGIN = 4


def line_height(size: int) -> int:
    """Pixels from one line to the next."""
    return round(size * 1.4)


def draw(
    layout: Layout, tiles: Sequence[tuple[Place, Image.Image]], captions: Sequence[Sequence[str]], size: int
) -> Image.Image:
    """Draw each picture in the middle of its place, and its lines below it.

    First lines are `size` pixels high, or so much lower that all fit; the others are cut where they do not fit.
    """
    paper = Image.new("RGB", (layout.width, layout.height), PAPER)
    widths = [place.width - 2 * _MARGIN for place, _ in tiles]
    heads = [(lines[0], width) for lines, width in zip(captions, widths, strict=True)]
    first = min(_fitting(line, size, width) for line, width in heads)
    for (place, tile), lines, width in zip(tiles, captions, widths, strict=True):
        x, y = place.x + (place.width - tile.width) // 2, place.y + (place.height - tile.height) // 2
        paper.paste(tile, (x, y))
        top = place.y + place.height + _MARGIN
        for number, line in enumerate(lines):
            high = max(SMALLEST, size - 2) if number else first
            write(paper, (place.x + _MARGIN, top), cut(line, high, width), high, fill=GREY if number else WHITE)
            top += line_height(size)
    return paper


def _fitting(line: str, size: int, width: int) -> int:
    """The largest height up to `size` at which a line fits, or the smallest there is."""
    while size > SMALLEST and text_width(line, size) > width:
        size -= 1
    return size
