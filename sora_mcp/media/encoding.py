"""Pillow's images as bytes, of a bounded size."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

from sora_mcp.core.pictures import PictureFormat

if TYPE_CHECKING:
    from PIL import Image

SHEET_BYTES = 60_000
"""Bytes of the largest sheet as a JPEG: some hosts give the model its base64 as text."""
FRAME_BYTES = 120_000
"""The same of one large frame."""
FRAME_WIDTH = 800
"""Pixels; a large frame becomes narrower than that only if nothing else makes it small enough."""

_GOOD = (80, 65, 50, 40)
"""Qualities of a JPEG (Pillow's, up to 95); the first that fits is taken."""
_POOR = (25, 10)


def encoded(image: Image.Image, picture_format: PictureFormat, most_bytes: int, width: int = 1) -> bytes:
    """A PNG, or a JPEG of at most `most_bytes`: of a lower quality where it has to be, then smaller, but (as long as a
    still lower quality helps) not narrower than `width` pixels."""
    if picture_format == "png":
        return _saved(image, "PNG")
    for quality in _GOOD:
        if len(content := _saved(image, "JPEG", quality=quality)) <= most_bytes:
            return content
    quality, poor = _GOOD[-1], list(_POOR)
    while len(content) > most_bytes:
        share = max(0.5, 0.95 * (most_bytes / len(content)) ** 0.5)
        if image.width > width:
            share = max(share, width / image.width)
        elif poor:
            share, quality = 1, poor.pop(0)
        image = image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))
        content = _saved(image, "JPEG", quality=quality)
    return content


def _saved(image: Image.Image, kind: Literal["JPEG", "PNG"], **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **options)
    return buffer.getvalue()
