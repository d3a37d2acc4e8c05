"""What a video holds, and stills of it in one picture. PyAV and Pillow are loaded when first needed.

All functions here are synchronous, and a video from outside can make them take for ever: `viewer` runs them in a
process that can be ended.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sora_mcp.core.pictures import PictureFormat
from sora_mcp.media.extra import require
from sora_mcp.media.unviewable import MAX_FRAMES, MAX_SIDE, Reason, Unviewable

if TYPE_CHECKING:
    from av.container import InputContainer
    from PIL import Image

SHEET_WIDTH = 1280
"""Pixels; a model sees no more in a wider picture."""

JPEG_BYTES = 60_000
"""Bytes of the largest contact sheet as a JPEG: some hosts give the model its base64 as text."""
_QUALITIES = (80, 65, 50, 40)
"""Qualities of a JPEG (Pillow's, up to 95), the first that fits is taken."""

MAX_THREADS = 4
"""Threads that decode one video: each holds frames of its own."""

_READ_ONLY_VIDEOS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
    "protocol_whitelist": "file",
}
"""What calls itself a video may be a playlist, which would have other files and addresses opened."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a video file really holds: pixels, frames, frames per second."""

    codec: str
    width: int
    height: int
    n_frames: int
    fps: float

    @property
    def duration_s(self) -> float:
        return self.n_frames / self.fps


@dataclass(frozen=True, slots=True)
class Sheet:
    """A contact sheet, what the video holds, and the number of stills that the sheet really shows."""

    picture: bytes
    probe: Probe
    frames: int


def probe(video: Path) -> Probe:
    """Read what a video holds; its frames are counted, not believed. Raises FileProblem or NotConfigured."""
    with opened(video) as container:
        stream = container.streams.video[0]
        if stream.codec_context is None or not (stream.width and stream.height and stream.average_rate):
            raise Unviewable("empty", video.name)
        if max(stream.width, stream.height) > MAX_SIDE:
            raise Unviewable("too_large", video.name)
        packets = (packet for packet in container.demux(stream) if packet.size)
        frames = sum(1 for _ in islice(packets, MAX_FRAMES + 1))
        if not frames:
            raise Unviewable("empty", video.name)
        if frames > MAX_FRAMES:
            raise Unviewable("too_long", video.name)
        return Probe(stream.codec_context.name, stream.width, stream.height, frames, float(stream.average_rate))


def contact_sheet(video: Path, frames: int, picture_format: PictureFormat = "jpeg") -> Sheet:
    """Up to `frames` (1..16) evenly spaced stills, in reading order, each with its time; a JPEG has at most JPEG_BYTES.

    Raises FileProblem where the file is no readable video, NotConfigured without the extra `media`.
    """
    about = probe(video)
    from sora_mcp.media.drawing import GAP, label, sheet  # noqa: PLC0415

    columns = min(frames, about.n_frames, 4 if about.width >= about.height else 6)
    width = min(about.width, SHEET_WIDTH // columns - GAP)
    height = max(1, round(width * about.height / about.width))
    tiles: list[Image.Image] = []
    for index, image in _stills(video, about.n_frames, frames):
        tile = image.resize((width, height))
        label(tile, f"{index / about.fps:.1f} s · {index}")
        tiles.append(tile)
    if not tiles:
        raise Unviewable("empty", video.name)
    whole = sheet(tiles, columns)
    return Sheet(_jpeg(whole) if picture_format == "jpeg" else _encoded(whole, "PNG"), about, len(tiles))


def _jpeg(image: Image.Image) -> bytes:
    """At most JPEG_BYTES: of a lower quality where it has to be, then smaller."""
    for quality in _QUALITIES:
        if len(encoded := _encoded(image, "JPEG", quality=quality)) <= JPEG_BYTES:
            return encoded
    while len(encoded) > JPEG_BYTES:
        share = max(0.5, 0.95 * (JPEG_BYTES / len(encoded)) ** 0.5)
        image = image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))
        encoded = _encoded(image, "JPEG", quality=_QUALITIES[-1])
    return encoded


def _encoded(image: Image.Image, kind: Literal["JPEG", "PNG"], **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **options)
    return buffer.getvalue()


def overview(sheets: Sequence[tuple[str, Path]], target: Path) -> None:
    """Put several contact sheets (title, file) under each other and save them as one PNG. Raises NotConfigured."""
    require()
    from sora_mcp.media.drawing import stack  # noqa: PLC0415

    stack(sheets, SHEET_WIDTH).save(target, "PNG", optimize=True)


def _stills(video: Path, n_frames: int, wanted: int) -> Iterator[tuple[int, Image.Image]]:
    """Evenly spaced frames with their indices; decoded one by one, so that memory stays small."""
    count = min(wanted, n_frames)
    indices = {round(i * (n_frames - 1) / max(1, count - 1)) for i in range(count)}
    with opened(video) as container:
        codec = container.streams.video[0].codec_context
        codec.thread_type, codec.thread_count = "AUTO", min(MAX_THREADS, os.cpu_count() or 1)
        for index, frame in enumerate(container.decode(video=0)):
            if max(frame.width, frame.height) > MAX_SIDE:
                raise Unviewable("too_large", video.name)
            if index in indices:
                yield index, frame.to_image()  # type: ignore[no-untyped-call]


@contextmanager
def opened(video: Path) -> Iterator[InputContainer]:
    """A file that holds pictures, open. Raises Unviewable or NotConfigured."""
    require()
    import av  # noqa: PLC0415

    try:
        with av.open(str(video), options=_READ_ONLY_VIDEOS) as container:
            if not container.streams.video:
                raise Unviewable("empty", video.name)
            yield container
    except (av.error.FFmpegError, OSError, ValueError) as error:
        no_thread = getattr(error, "errno", None) == errno.EAGAIN
        reason: Reason = "memory" if isinstance(error, MemoryError) or no_thread else "unreadable"
        raise Unviewable(reason, video.name) from None
