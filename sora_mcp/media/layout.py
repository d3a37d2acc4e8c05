"""The layout of the stills on a sheet: rows that fill a rectangle, for any number and shape. Numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

MAX_WIDTH = 1280
"""Pixels of a sheet; a model sees no more in a wider picture."""
MAX_HEIGHT = 1280
"""Pixels of a sheet."""
MIN_STILL_WIDTH = 160
"""Pixels, if the sheet has room: the caption of a narrower still cannot be read."""
GAP = 4
"""Pixels between stills."""

_PREFERRED_ASPECT = 2.0
"""Preferred width to height of a sheet."""
_UNEVEN_PENALTY = 0.5
"""Penalty for rows of different lengths, on the scale of the logarithm of that ratio."""
_MAX_ASPECT, _MIN_ASPECT = 4.0, 0.25
"""Limits of the width to height of a place; a wider or taller still is centred in it."""


class Place(Struct, frozen=True):
    """The rectangle of a still in pixels; its caption is below."""

    x: int
    y: int
    width: int
    height: int


class Layout(Struct, frozen=True):
    """The size of a sheet, and the places of its stills: group by group, each with one still of every video."""

    width: int
    height: int
    places: tuple[Place, ...]


def row_lengths(count: int, aspect: float) -> list[int]:
    """The number of stills of one aspect ratio (width to height) in each row; shorter rows come first.

    Six landscape stills make 3 and 3, six portrait ones a single row, five landscape ones 2 and 3.
    """

    def distance(rows: list[int]) -> tuple[float, int]:
        sheet = 1 / sum(1 / (length * aspect) for length in rows)
        return round(abs(math.log(sheet / _PREFERRED_ASPECT)) + _UNEVEN_PENALTY * (rows[0] != rows[-1]), 3), -len(rows)

    return min((_split_evenly(count, rows) for rows in range(1, count + 1)), key=distance)


def _split_evenly(count: int, rows: int) -> list[int]:
    shortest, n_longer = divmod(count, rows)
    return [shortest] * (rows - n_longer) + [shortest + 1] * n_longer


def arrange(shapes: Sequence[tuple[int, int]], times: int, caption_height: int) -> Layout:
    """Lay out stills of videos of these `shapes` (width, height), each at this number of `times`.

    `caption_height` is the space below each still, in pixels. Stills of the same time form a group: below each other if
    all are landscape, otherwise side by side. If there is a single time, each still is on its own.
    """
    if times == 1 and len(shapes) > 2:
        aspect = _cell_aspect(shapes[0])
        return _fit_rows([[aspect]] * len(shapes), len(shapes), caption_height, shapes[0][0])
    aspects = [_cell_aspect(shape) for shape in shapes]
    return _fit_rows([aspects] * times, times, caption_height, max(width for width, _ in shapes))


def _cell_aspect(shape: tuple[int, int]) -> float:
    """The width to height of a place."""
    return min(_MAX_ASPECT, max(_MIN_ASPECT, shape[0] / shape[1]))


def _fit_rows(groups: Sequence[list[float]], count: int, caption_height: int, widest: int) -> Layout:
    aspects = groups[0]
    is_stacked = all(aspect > 1 for aspect in aspects)
    across = 1 if is_stacked else len(aspects)
    group_aspect = 1 / sum(1 / aspect for aspect in aspects) if is_stacked else sum(aspects)
    lengths = row_lengths(count, group_aspect)
    natural_width = max(widest, MIN_STILL_WIDTH) * across * lengths[0]
    width = min(MAX_WIDTH, natural_width + (across * lengths[0] - 1) * GAP)
    layout = _place_rows(aspects, lengths, caption_height, width, is_stacked=is_stacked)
    for _ in range(8):
        if layout.height <= MAX_HEIGHT:
            break
        width = max(len(lengths) * across * 16, int(width * min(0.97, MAX_HEIGHT / layout.height)))
        layout = _place_rows(aspects, lengths, caption_height, width, is_stacked=is_stacked)
    return layout


def _place_rows(
    aspects: Sequence[float], lengths: Sequence[int], caption_height: int, width: int, *, is_stacked: bool
) -> Layout:
    """Place all groups on a sheet of this width."""
    places: list[Place] = []
    y = 0
    for length in lengths:
        group = (width + GAP) / length - GAP
        row_height = 0
        for number in range(length):
            left, right = (round(index * (group + GAP)) for index in (number, number + 1))
            members = _place_group(aspects, left, y, right - GAP - left, caption_height, is_stacked=is_stacked)
            row_height = max(row_height, max(place.y + place.height for place in members) + caption_height - y)
            places += members
        y += row_height + GAP
    return Layout(width, y - GAP, tuple(places))


def _place_group(
    aspects: Sequence[float], x: int, y: int, width: int, caption_height: int, *, is_stacked: bool
) -> list[Place]:
    if is_stacked:
        places = []
        for aspect in aspects:
            places.append(Place(x, y, width, max(1, round(width / aspect))))
            y += places[-1].height + caption_height + GAP // 2
        return places
    height = max(1, round((width - GAP // 2 * (len(aspects) - 1)) / sum(aspects)))
    ends = [x + round((width + GAP // 2) * sum(aspects[: i + 1]) / sum(aspects)) for i in range(len(aspects))]
    starts = [x, *ends[:-1]]
    return [Place(start, y, max(1, end - GAP // 2 - start), height) for start, end in zip(starts, ends, strict=True)]
