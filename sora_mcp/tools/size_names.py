"""Sizes as other APIs name them: 720x1280, 16:9, portrait, 1080p."""

from __future__ import annotations

import re
from collections.abc import Callable

_SHAPES = {"landscape": 16 / 9, "horizontal": 16 / 9, "wide": 16 / 9, "widescreen": 16 / 9, "square": 1.0}
_SHAPES |= {"portrait": 9 / 16, "vertical": 9 / 16, "tall": 9 / 16}
PAIR = r"(\d{2,5})\s*[^\d\s:/]\s*(\d{2,5})"
_LINES = {"sd": 480, "hd": 720, "fhd": 1080, "fullhd": 1080, "2k": 1440, "qhd": 1440, "4k": 2160, "uhd": 2160}


def size_matcher(text: str) -> Callable[[int, int], bool] | None:
    """Return a predicate of a width and a height for a text that names a size; None if it cannot be read."""
    if pair := re.fullmatch(PAIR, text):
        size = int(pair[1]), int(pair[2])
        return lambda width, height: (width, height) == size
    if pair := re.fullmatch(r"(\d{1,2}(?:\.\d{1,3})?)\s*[:/x]\s*(\d{1,2}(?:\.\d{1,3})?)", text):
        ratio = float(pair[1]) / float(pair[2]) if float(pair[2]) else 0
    else:
        ratio = _SHAPES.get(text, 0)
    if ratio:
        return lambda width, height: abs(width / height / ratio - 1) < 0.03  # 854x480 is not quite 16:9
    lines = int(text.rstrip("p")) if re.fullmatch(r"\d{3,4}p?", text) else _LINES.get(text)
    return None if lines is None else lambda width, height: min(width, height) == lines
