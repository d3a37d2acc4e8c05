"""Several sheets on one Pillow image, each under its title."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sora_mcp.media.layout import MAX_WIDTH
from sora_mcp.media.typesetting import draw_text

BACKGROUND = (18, 18, 22)
GAP = 4
"""Pixels around a picture."""

_TITLE_HEIGHT = 38
"""Pixels."""


def draw_overview(sheets: Sequence[tuple[str, Path]]) -> Image.Image:
    """Draw pictures in two columns, in reading order, each under its title."""
    column_width = MAX_WIDTH // 2
    cells = [_draw_titled(title, path, column_width) for title, path in sheets]
    rows = [cells[start : start + 2] for start in range(0, len(cells), 2)]
    heights = [max(cell.height for cell in row) for row in rows]
    canvas = Image.new("RGB", (MAX_WIDTH, sum(heights)), BACKGROUND)
    y = 0
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            canvas.paste(cell, (column * column_width, y))
        y += height
    return canvas


def _draw_titled(title: str, path: Path, width: int) -> Image.Image:
    with Image.open(path) as picture:
        inner_width = width - 2 * GAP
        height = round(picture.height * inner_width / picture.width)
        cell = Image.new("RGB", (width, height + _TITLE_HEIGHT + GAP), BACKGROUND)
        cell.paste(picture.convert("RGB").resize((inner_width, height)), (GAP, _TITLE_HEIGHT))
    draw_text(cell, (GAP + 6, _TITLE_HEIGHT / 2), title, 20, anchor="lm")
    return cell
