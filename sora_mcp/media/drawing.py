"""Words and pictures on a Pillow image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sora_mcp.media.letters import write

PAPER = (18, 18, 22)
GAP = 4
"""Pixels around a picture."""


_TITLE = 38
"""Pixels of a title."""


def stack(sheets: Sequence[tuple[str, Path]], width: int) -> Image.Image:
    """Pictures in two columns, in reading order, each under its title; `width` is that of both, in pixels."""
    side = width // 2
    cells = [_titled(title, path, side) for title, path in sheets]
    rows = [cells[at : at + 2] for at in range(0, len(cells), 2)]
    heights = [max(cell.height for cell in row) for row in rows]
    paper = Image.new("RGB", (width, sum(heights)), PAPER)
    y = 0
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            paper.paste(cell, (column * side, y))
        y += height
    return paper


def _titled(title: str, path: Path, width: int) -> Image.Image:
    with Image.open(path) as picture:
        inner = width - 2 * GAP
        height = round(picture.height * inner / picture.width)
        cell = Image.new("RGB", (width, height + _TITLE + GAP), PAPER)
        cell.paste(picture.convert("RGB").resize((inner, height)), (GAP, _TITLE))
    write(cell, (GAP + 6, _TITLE / 2), title, 20, anchor="lm")
    return cell
