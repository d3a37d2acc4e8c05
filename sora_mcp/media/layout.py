"""Where the stills of a sheet stand: rows that fill its rectangle, whatever their number and shape. Numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

WIDTH = 1280
"""Pixels of the widest sheet; a model sees no more in a wider picture."""
HEIGHT = 1280
"""Pixels of the highest."""
NARROWEST = 160
"""Pixels of a still, if the sheet has room for it: words under a narrower one cannot be read."""
GAP = 4
"""Pixels between stills."""

_WISHED = 2.0
"""Width to height of a sheet as it is liked best."""
_UNEVEN = 0.5
"""How much worse rows of different lengths are, as a logarithm of such a ratio."""
_FLATTEST, _TALLEST = 4.0, 0.25
"""Width to height of the place of a still; what is flatter or taller stands inside it."""


class Place(Struct, frozen=True):
    """Where a still stands, in pixels; its words stand below."""

    x: int
    y: int
    width: int
    height: int


class Layout(Struct, frozen=True):
    """The size of a sheet, and the places of its stills: group by group, in each one still of every video."""

    width: int
    height: int
    places: tuple[Place, ...]


def row_lengths(count: int, aspect: float) -> list[int]:
    """How many stills of one shape (width to height) stand in each row: the shorter rows come first.

    Six landscape ones are 3 and 3, six portrait ones stand in one row, five are 2 and 3.
    """

    def distance(rows: list[int]) -> tuple[float, int]:
        sheet = 1 / sum(1 / (length * aspect) for length in rows)
        return round(abs(math.log(sheet / _WISHED)) + _UNEVEN * (rows[0] != rows[-1]), 3), -len(rows)

    return min((_evenly(count, rows) for rows in range(1, count + 1)), key=distance)


def _evenly(count: int, rows: int) -> list[int]:
    least, longer = divmod(count, rows)
    return [least] * (rows - longer) + [least + 1] * longer


def arrange(shapes: Sequence[tuple[int, int]], times: int, words: int) -> Layout:
    """Stills of videos of these `shapes` (width, height) at so many `times`; `words`: the pixels below each for words.

    Those of one time stand together: below each other where all are landscape, else side by side. Of a single time
    each stands for itself.
    """
    if times == 1 and len(shapes) > 2:
        cell = _cell(shapes[0])
        return _rows([[cell]] * len(shapes), len(shapes), words, shapes[0][0])
    cells = [_cell(shape) for shape in shapes]
    return _rows([cells] * times, times, words, max(width for width, _ in shapes))


def _cell(shape: tuple[int, int]) -> float:
    """Width to height of a place."""
    return min(_FLATTEST, max(_TALLEST, shape[0] / shape[1]))


def _rows(groups: Sequence[list[float]], count: int, words: int, widest: int) -> Layout:
    cells = groups[0]
    is_stacked = all(cell > 1 for cell in cells)
    across = 1 if is_stacked else len(cells)
    aspect = 1 / sum(1 / cell for cell in cells) if is_stacked else sum(cells)
    lengths = row_lengths(count, aspect)
    natural = max(widest, NARROWEST) * across * lengths[0]
    width = min(WIDTH, natural + (across * lengths[0] - 1) * GAP)
    layout = _placed(cells, lengths, words, width, is_stacked=is_stacked)
    for _ in range(8):
        if layout.height <= HEIGHT:
            break
        width = max(len(lengths) * across * 16, int(width * min(0.97, HEIGHT / layout.height)))
        layout = _placed(cells, lengths, words, width, is_stacked=is_stacked)
    return layout


def _placed(cells: Sequence[float], lengths: Sequence[int], words: int, width: int, *, is_stacked: bool) -> Layout:
    """All places on a sheet of this width."""
    places: list[Place] = []
    y = 0
    for length in lengths:
        group = (width + GAP) / length - GAP
        row = 0
        for number in range(length):
            left, right = (round(each * (group + GAP)) for each in (number, number + 1))
            inside = _group(cells, left, y, right - GAP - left, words, is_stacked=is_stacked)
            row = max(row, max(place.y + place.height for place in inside) + words - y)
            places += inside
        y += row + GAP
    return Layout(width, y - GAP, tuple(places))


def _group(cells: Sequence[float], x: int, y: int, width: int, words: int, *, is_stacked: bool) -> list[Place]:
    if is_stacked:
        places = []
        for cell in cells:
            places.append(Place(x, y, width, max(1, round(width / cell))))
            y += places[-1].height + words + GAP // 2
        return places
    height = max(1, round((width - GAP // 2 * (len(cells) - 1)) / sum(cells)))
    ends = [x + round((width + GAP // 2) * sum(cells[: i + 1]) / sum(cells)) for i in range(len(cells))]
    starts = [x, *ends[:-1]]
    return [Place(start, y, max(1, end - GAP // 2 - start), height) for start, end in zip(starts, ends, strict=True)]
