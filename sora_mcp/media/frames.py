"""One frame of a video as a picture, to be sent with a request.

Synchronous, like `stills`: `viewer` runs it in a process that can be killed.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sora_mcp.media.film import Probe, read_film
from sora_mcp.media.unviewable import Unviewable

if TYPE_CHECKING:
    from PIL import Image

_QUALITIES = (95, 85, 70, 50)
"""JPEG qualities (Pillow's, up to 95); the first that fits is used."""


class Frame(Struct, frozen=True):
    """One frame as a JPEG (empty if the video has no such frame), and the properties of the video."""

    picture: bytes
    probe: Probe


def read_frame(video: Path, index: int | None, max_bytes: int) -> Frame:
    """Return the frame with this index, or the last one (None), upright, as a JPEG of at most `max_bytes`.

    Raises FileProblem if the file is not a readable video, NotConfigured without the extra `media`.
    """
    film = read_film(video)
    probe = film.probe
    if index is not None and index >= probe.n_frames:
        return Frame(b"", probe)
    indices = range(max(0, probe.n_frames - _LAST_FRAMES_TRIED), probe.n_frames) if index is None else [index]
    image: Image.Image | None = None
    for _, decoded in film.pictures(indices, probe.width, probe.height):
        image = decoded  # the last of the last few that can be decoded
    if image is None:
        raise Unviewable("damaged", video.name)
    return Frame(_encode_jpeg(image, max_bytes), probe)


_LAST_FRAMES_TRIED = 5
"""A truncated file lacks its very last frames."""


def _encode_jpeg(image: Image.Image, max_bytes: int) -> bytes:
    """Encode at a lower quality if necessary, then at a smaller size."""
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= max_bytes or min(image.size) == 1:
                return buffer.getvalue()
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)))
