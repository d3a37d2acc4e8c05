"""Drawing of a sheet: pictures in their places, with captions below them."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from sora_mcp.media.drawing import BACKGROUND
from sora_mcp.media.layout import Layout, Place
from sora_mcp.media.typesetting import WHITE, Rgba, draw_text, text_width, truncate

MIN_TEXT_SIZE = 12
"""Pixels: text that does not fit at this size is truncated."""
GREY: Rgba = (196, 200, 208, 255)
_MARGIN = 4


def line_height(size: int) -> int:
    """Pixels from one line to the next."""
    return round(size * 1.4)


def draw_sheet(
    layout: Layout, tiles: Sequence[tuple[Place, Image.Image]], captions: Sequence[Sequence[str]], size: int
) -> Image.Image:
    """Draw each picture in the middle of its place, and its caption lines below it.

    First lines are `size` pixels high, or as much smaller as it takes for all to fit; the others are truncated.
    """
    canvas = Image.new("RGB", (layout.width, layout.height), BACKGROUND)
    widths = [place.width - 2 * _MARGIN for place, _ in tiles]
    first_lines = [(lines[0], width) for lines, width in zip(captions, widths, strict=True)]
    first_size = min(_fitting_size(line, size, width) for line, width in first_lines)
    for (place, tile), lines, width in zip(tiles, captions, widths, strict=True):
        x, y = place.x + (place.width - tile.width) // 2, place.y + (place.height - tile.height) // 2
        canvas.paste(tile, (x, y))
        top = place.y + place.height + _MARGIN
        for number, line in enumerate(lines):
            line_size = max(MIN_TEXT_SIZE, size - 2) if number else first_size
            draw_text(
                canvas,
                (place.x + _MARGIN, top),
                truncate(line, line_size, width),
                line_size,
                fill=GREY if number else WHITE,
            )
            top += line_height(size)
    return canvas


def _fitting_size(line: str, size: int, width: int) -> int:
    """The largest height up to `size` at which a line fits, or MIN_TEXT_SIZE."""
    while size > MIN_TEXT_SIZE and text_width(line, size) > width:
        size -= 1
    return size
