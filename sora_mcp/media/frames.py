"""One frame of a video as a picture, to be sent along with a request.

Synchronous, as `stills` is: `viewer` runs it in a process that can be ended.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sora_mcp.media.film import Probe, read
from sora_mcp.media.unviewable import Unviewable

if TYPE_CHECKING:
    from PIL import Image

_QUALITIES = (95, 85, 70, 50)
"""Qualities of a JPEG (Pillow's, up to 95); the first that fits is taken."""


class Frame(Struct, frozen=True):
    """One frame as a JPEG, and what the video holds; empty where there is no such frame."""

    picture: bytes
    probe: Probe


def frame(video: Path, index: int | None, max_bytes: int) -> Frame:
    """The frame with this index, or the last one (None), upright, as a JPEG of at most `max_bytes`.

    Raises FileProblem where the file is no readable video, NotConfigured without the extra `media`.
    """
    film = read(video)
    about = film.probe
    if index is not None and index >= about.n_frames:
        return Frame(b"", about)
    wanted = range(max(0, about.n_frames - _LAST), about.n_frames) if index is None else [index]
    image: Image.Image | None = None
    for _, decoded in film.pictures(wanted, about.width, about.height):
        image = decoded  # of the last few the last that can be decoded
    if image is None:
        raise Unviewable("damaged", video.name)
    return Frame(_jpeg(image, max_bytes), about)


_LAST = 5
"""So many frames are tried for the last one: the very last ones are those that are missing in a file that is cut."""


def _jpeg(image: Image.Image, max_bytes: int) -> bytes:
    """Of a lower quality where it has to be, then smaller."""
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= max_bytes or min(image.size) == 1:
                return buffer.getvalue()
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)))
