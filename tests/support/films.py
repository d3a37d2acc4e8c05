"""Videos whose frames encode their own number, at any rate, rotated or encrypted; and decoding that number."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageOps

BITS = 12
"""Squares, four in a row, that encode a frame's number: white is 1."""
TICKS = 12_800
"""Ticks per second."""


def numbered(number: int, size: tuple[int, int]) -> Image.Image:
    """The picture of one frame."""
    image = Image.new("L", (4, 3))
    image.putdata([255 * (number >> bit & 1) for bit in range(BITS)])
    return image.resize(size, Image.Resampling.NEAREST).convert("RGB")


def frame_number(picture: Image.Image) -> int:
    """The number of the frame in a picture."""
    width, height = picture.size
    grey = ImageOps.grayscale(picture)
    points = [((2 * (bit % 4) + 1) * width // 8, (2 * (bit // 4) + 1) * height // 6) for bit in range(BITS)]
    return sum((int(str(grey.getpixel(point))) > 127) << bit for bit, point in enumerate(points))


def film(
    path: Path,
    times: Sequence[Fraction | float],
    size: tuple[int, int] = (320, 180),
    *,
    turned: int = 0,
    codec: str = "libx264",
    container: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Write a video with frames at `times` (seconds); the last one is as long as the one before it. A player rotates it
    by `turned` degrees clockwise."""
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=Fraction(TICKS), options={"preset": "veryfast"} | options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
        if turned:
            stream.set_display_rotation(-turned)
        ends = [*times[1:], 2 * times[-1] - times[-2] if len(times) > 1 else times[-1] + Fraction(1, 30)]
        for number, (time, end) in enumerate(zip(times, ends, strict=True)):
            frame = av.VideoFrame.from_image(numbered(number, size))  # type: ignore[no-untyped-call]
            frame.pts, frame.duration = round(time * TICKS), round(end * TICKS) - round(time * TICKS)
            frame.time_base = Fraction(1, TICKS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def at_rate(fps: float | Fraction, n_frames: int) -> list[Fraction]:
    """The times of the frames at a constant rate."""
    return [number / Fraction(fps) for number in range(n_frames)]


def sound(path: Path) -> Path:
    """Write a file with audio only."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44_100)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(40):
            frame.pts, frame.sample_rate = number * 1024, 44_100
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def timestamps(path: Path) -> list[float]:
    """The timestamp of each frame according to PyAV, which decodes all of them."""
    with av.open(str(path)) as file:
        return [float(frame.time or 0) for frame in file.decode(video=0)]


def bordered(size: tuple[int, int]) -> Image.Image:
    """A picture whose red upper left corner shows its orientation."""
    image = Image.new("RGB", size, (40, 90, 160))
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 3, size[1] // 3), fill=(220, 30, 30))
    return image
