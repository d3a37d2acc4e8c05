"""What needs PyAV and Pillow: looking at videos and rendering the sandbox's. Both are loaded when first needed.

All functions here are synchronous, and a video from outside can make them take for ever: `viewer` runs them in a
process that can be ended.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sora_mcp.core.errors import FileProblem, NotConfigured

if TYPE_CHECKING:
    from av.container import InputContainer
    from PIL import Image

SHEET_WIDTH = 1280
"""Pixels; a model sees no more in a wider picture."""

MAX_SIDE = 8192
"""Pixels; a larger video is not decoded."""
MAX_FRAMES = 20_000
"""Frames of the longest video that is decoded: eleven minutes at 30 frames per second."""
WITHIN = 10.0
"""Seconds in which a video is looked at, the start of a process for it included, or not at all."""
MAX_THREADS = 4
"""Threads that decode one video: each holds frames of its own."""

_READ_ONLY_VIDEOS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
    "protocol_whitelist": "file",
}
"""What calls itself a video may be a playlist, which would have other files and addresses opened."""


Reason = Literal["unreadable", "empty", "too_large", "too_long", "slow", "memory", "ended", "busy", "stopped"]
"""Why a video is not shown."""

_DOWNLOAD = "Call download_video to keep it; a player may still show it."
_WORDS: dict[Reason, tuple[str, str]] = {
    "unreadable": ("cannot be read as a video.", "Download it again."),
    "empty": ("holds no video that can be shown.", "Get the video again."),
    "too_large": (f"is larger than what is shown here ({MAX_SIDE} pixels a side).", _DOWNLOAD),
    "too_long": (f"is larger than what is shown here ({MAX_FRAMES} frames).", _DOWNLOAD),
    "slow": (f"is too large to be looked at within {WITHIN:g} s.", _DOWNLOAD),
    "memory": ("is too large to be looked at: it takes too much memory.", _DOWNLOAD),
    "ended": (
        "could not be looked at: the process that decodes it ended unexpectedly.",
        "Call again once; if it stays so, call download_video.",
    ),
    "stopped": ("was not looked at: this server is being stopped.", "Call again once it runs again."),
    "busy": ("was not looked at: others are being looked at now.", "Call again in a few seconds."),
}
"""What is said of a video after its name, and what to do next."""


class Unviewable(FileProblem):
    """A video that cannot be shown, or not now."""

    def __init__(self, reason: Reason, name: str) -> None:
        words, next_step = _WORDS[reason]
        super().__init__(f"{name} {words}", next_step)
        self.reason = reason

    @property
    def can_retry(self) -> bool:
        return self.reason in {"ended", "busy", "stopped"}


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
    """A contact sheet as a PNG, what the video holds, and the number of stills that the sheet really shows."""

    png: bytes
    probe: Probe
    frames: int


def require() -> None:
    """Load PyAV and Pillow. Raises NotConfigured where the extra `media` is not installed or cannot be loaded."""
    try:
        import av  # noqa: F401, PLC0415
        import PIL  # noqa: F401, PLC0415
    except ImportError:
        raise not_installed() from None


def require_installed() -> None:
    """Raise NotConfigured where the extra `media` is not installed; nothing is loaded into this process."""
    if find_spec("av") is None or find_spec("PIL") is None:
        raise not_installed()


def not_installed() -> NotConfigured:
    """The extra `media` is missing, or cannot be loaded."""
    return NotConfigured(
        "This needs the extra `media` (PyAV and Pillow), which is not installed.",
        f"Ask the user to install it: {sys.executable} -m pip install av pillow",
    )


def probe(video: Path) -> Probe:
    """Read what a video holds; its frames are counted, not believed. Raises FileProblem or NotConfigured."""
    with _opened(video) as container:
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


def contact_sheet(video: Path, frames: int) -> Sheet:
    """Up to `frames` (1..16) evenly spaced stills, in reading order, each with its time.

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
    buffer = io.BytesIO()
    sheet(tiles, columns).save(buffer, "PNG", optimize=True)
    return Sheet(buffer.getvalue(), about, len(tiles))


def overview(sheets: Sequence[tuple[str, Path]], target: Path) -> None:
    """Put several contact sheets (title, file) under each other and save them as one PNG. Raises NotConfigured."""
    require()
    from sora_mcp.media.drawing import stack  # noqa: PLC0415

    stack(sheets, SHEET_WIDTH).save(target, "PNG", optimize=True)


def _stills(video: Path, n_frames: int, wanted: int) -> Iterator[tuple[int, Image.Image]]:
    """Evenly spaced frames with their indices; decoded one by one, so that memory stays small."""
    count = min(wanted, n_frames)
    indices = {round(i * (n_frames - 1) / max(1, count - 1)) for i in range(count)}
    with _opened(video) as container:
        codec = container.streams.video[0].codec_context
        codec.thread_type, codec.thread_count = "AUTO", min(MAX_THREADS, os.cpu_count() or 1)
        for index, frame in enumerate(container.decode(video=0)):
            if max(frame.width, frame.height) > MAX_SIDE:
                raise Unviewable("too_large", video.name)
            if index in indices:
                yield index, frame.to_image()  # type: ignore[no-untyped-call]


@contextmanager
def _opened(video: Path) -> Iterator[InputContainer]:
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
