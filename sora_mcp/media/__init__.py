"""What needs PyAV and Pillow: looking at videos and rendering the sandbox's. Both are loaded when first needed.

All functions here are synchronous and take their time: call them in a worker thread.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sora_mcp.errors import FileProblem, NotConfigured

if TYPE_CHECKING:
    from av.container import InputContainer
    from PIL import Image

SHEET_WIDTH = 1280
"""Pixels; a model sees no more in a wider picture."""


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


def require() -> None:
    """Raise NotConfigured where the extra `media` is not installed."""
    try:
        import av  # noqa: F401, PLC0415
        import PIL  # noqa: F401, PLC0415
    except ImportError:
        raise NotConfigured(
            "This needs the extra `media` (PyAV and Pillow), which is not installed.",
            "Ask the user to install it: pip install '.[media]', or use SORA_BASE_URL with a gateway.",
        ) from None


def probe(video: Path) -> Probe:
    """Read what a video holds; its frames are counted, not believed. Raises FileProblem or NotConfigured."""
    with _opened(video) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 0)
        frames = sum(1 for packet in container.demux(stream) if packet.size)
        return Probe(stream.codec_context.name, stream.width, stream.height, frames, rate)


def contact_sheet(video: Path, frames: int) -> bytes:
    """A PNG of `frames` (1..16) evenly spaced stills, in reading order, each with its time.

    Raises FileProblem where the file is no readable video, NotConfigured without the extra `media`.
    """
    about = probe(video)
    from sora_mcp.media.drawing import label, sheet  # noqa: PLC0415

    columns = min(frames, 4 if about.width >= about.height else 6)
    width = min(about.width, SHEET_WIDTH // columns)
    height = round(width * about.height / about.width)
    tiles: list[Image.Image] = []
    for index, image in _stills(video, about.n_frames, frames):
        tile = image.resize((width, height))
        label(tile, f"{index / about.fps:.1f} s · {index}")
        tiles.append(tile)
    buffer = io.BytesIO()
    sheet(tiles, columns).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def overview(sheets: Sequence[tuple[str, Path]], target: Path) -> None:
    """Put several contact sheets (title, file) under each other and save them as one PNG. Raises NotConfigured."""
    require()
    from sora_mcp.media.drawing import stack  # noqa: PLC0415

    stack(sheets, SHEET_WIDTH).save(target, "PNG", optimize=True)


def _stills(video: Path, n_frames: int, wanted: int) -> Iterator[tuple[int, Image.Image]]:
    """Evenly spaced frames with their indices; decoded one by one, so that memory stays small."""
    indices = {round(i * (n_frames - 1) / max(1, wanted - 1)) for i in range(min(wanted, n_frames))}
    with _opened(video) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in indices:
                yield index, frame.to_image()  # type: ignore[no-untyped-call]


@contextmanager
def _opened(video: Path) -> Iterator[InputContainer]:
    require()
    import av  # noqa: PLC0415

    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise FileProblem(f"{video.name} holds no video.", "Get the video again.")
            yield container
    except (av.error.FFmpegError, OSError, ValueError):
        raise FileProblem(f"{video.name} cannot be read as a video.", "Download it again.") from None
