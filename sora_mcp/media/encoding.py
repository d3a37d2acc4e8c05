"""Pillow images encoded within a size limit."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

from sora_mcp.core.pictures import PictureFormat

if TYPE_CHECKING:
    from PIL import Image

MAX_SHEET_BYTES = 60_000
"""Limit of a sheet as a JPEG: some hosts give the model its base64 as text."""
MAX_FRAME_BYTES = 120_000
"""The same for one large frame."""
MIN_FRAME_WIDTH = 800
"""Pixels; a large frame is made narrower only if nothing else makes it small enough."""

_QUALITIES = (80, 65, 50, 40)
"""JPEG qualities (Pillow's, up to 95); the first that fits is used."""
_FALLBACK_QUALITIES = (25, 10)
"""Used once the image is as narrow as it may be."""


def encode(image: Image.Image, picture_format: PictureFormat, max_bytes: int, min_width: int = 1) -> bytes:
    """Encode as a PNG, or as a JPEG of at most `max_bytes`: at a lower quality if necessary, then at a smaller size,
    but not narrower than `min_width` pixels as long as a still lower quality helps."""
    if picture_format == "png":
        return _save(image, "PNG")
    for quality in _QUALITIES:
        if len(content := _save(image, "JPEG", quality=quality)) <= max_bytes:
            return content
    quality, fallbacks = _QUALITIES[-1], list(_FALLBACK_QUALITIES)
    while len(content) > max_bytes:
        scale = max(0.5, 0.95 * (max_bytes / len(content)) ** 0.5)
        if image.width > min_width:
            scale = max(scale, min_width / image.width)
        elif fallbacks:
            scale, quality = 1, fallbacks.pop(0)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        content = _save(image, "JPEG", quality=quality)
    return content


def _save(image: Image.Image, format_name: Literal["JPEG", "PNG"], **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, optimize=True, **options)
    return buffer.getvalue()
