"""One frame of a video as a picture, to be sent along with a request.

Synchronous, as `stills` is: `viewer` runs it in a process that can be ended.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sora_mcp.media import film
from sora_mcp.media.film import Probe
from sora_mcp.media.unviewable import Unviewable

if TYPE_CHECKING:
    from PIL import Image

_QUALITIES = (95, 85, 70, 50)
"""Qualities of a JPEG (Pillow's, up to 95); the first that fits is taken."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as a JPEG, and what the video holds; empty where there is no such frame."""

    picture: bytes
    probe: Probe


def frame(video: Path, index: int | None, max_bytes: int) -> Frame:
    """The frame with this index, or the last one (None), as a JPEG of at most `max_bytes`.

    Raises Unviewable where the file is no readable video, NotConfigured without the extra `media`.
    """
    whole = film.read(video)
    about = whole.probe
    last = about.n_frames - 1
    if index is not None and index > last:
        return Frame(b"", about)
    image = next(
        (image for _, image in whole.pictures([last if index is None else index], about.width, about.height)), None
    )
    if image is None:
        raise Unviewable("empty", video.name)
    return Frame(_jpeg(image, max_bytes), about)


def _jpeg(image: Image.Image, max_bytes: int) -> bytes:
    """Of a lower quality where it has to be, then smaller."""
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= max_bytes or min(image.size) == 1:
                return buffer.getvalue()
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)))
