"""Words and pictures on a Pillow image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Ink = tuple[int, int, int, int]

PAPER = (18, 18, 22)
WHITE: Ink = (255, 255, 255, 255)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: no file needed, the same picture on every machine."""
    return ImageFont.load_default(size)


def stack(sheets: Sequence[tuple[str, Path]], width: int) -> Image.Image:
    """Pictures under each other at one width, each under its title."""
    rows: list[Image.Image] = []
    for title, path in sheets:
        with Image.open(path) as picture:
            height = round(picture.height * width / picture.width)
            row = Image.new("RGB", (width, height + 44), PAPER)
            row.paste(picture.convert("RGB").resize((width, height)), (0, 38))
        ImageDraw.Draw(row).text((10, 8), title, fill=WHITE, font=font(20))
        rows.append(row)
    paper = Image.new("RGB", (width, sum(row.height for row in rows)), PAPER)
    y = 0
    for row in rows:
        paper.paste(row, (0, y))
        y += row.height
    return paper


def wrapped(draw: ImageDraw.ImageDraw, text: str, size: int, width: int, lines: int) -> str:
    """`text` broken into at most `lines` lines of at most `width` pixels, the last one cut with an ellipsis."""
    rows: list[str] = []
    for word in text.split():
        joined = f"{rows[-1]} {word}" if rows else word
        if rows and draw.textlength(joined, font=font(size)) <= width:
            rows[-1] = joined
        else:
            rows.append(word)
    for i, line in enumerate(rows):
        line = line[:width]  # noqa: PLW2901 - no letter is narrower than a pixel
        while len(line) > 1 and draw.textlength(line, font=font(size)) > width:
            line = line[:-2] + "…"  # noqa: PLW2901
        rows[i] = line
    if len(rows) > lines:
        rows = [*rows[: lines - 1], rows[lines - 1].rstrip("… ") + "…"]
    return "\n".join(rows)
