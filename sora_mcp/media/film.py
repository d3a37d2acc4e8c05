"""The actual contents of a video file: its frames, their timestamps, and pictures of some of them.

Times are the file's own timestamps, so they are right for any frame rate, including a variable one. Frames are reached
by seeking: as little as possible is decoded between two of them. Everything here is synchronous, and an untrusted file
can make it run forever: `viewer` runs it in a process that can be killed.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sora_mcp.media.extra import require
from sora_mcp.media.unviewable import MAX_FRAMES, MAX_SIDE, Reason, Unviewable

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL import Image

MAX_THREADS = 4
"""Threads that decode one video; each holds its own frames in memory."""
MAX_THREADS_LARGE = 2
"""The same for a video with more pixels than `_LARGE_PIXELS`."""
_LARGE_PIXELS = 4096 * 2304
_DECODER_BYTES_PER_PIXEL = 4
"""The size of two or three frames: if that much cannot be allocated, a decoder may have run out of memory."""

_READ_ONLY_VIDEOS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
    "protocol_whitelist": "file",
}
"""A file that looks like a video may be a playlist, which would have other files and addresses opened."""

TOLERANCE_S = 0.002
"""Seconds by which a container may round its timestamps: Matroska has milliseconds."""

_MIN_FRAME_S = 0.004
"""Seconds; an encoder that does not know the end writes a last frame of one tick."""


class Probe(Struct, frozen=True):
    """The actual properties of a video file; the size is in pixels as displayed.

    `fps` is frames per second, the average if `is_variable`. `duration_s` includes the display of the last frame.
    """

    codec: str
    width: int
    height: int
    n_frames: int
    fps: float
    duration_s: float
    is_variable: bool = False


class Film(Struct, frozen=True):
    """A video file that was read through once, without decoding it.

    `ticks` are the timestamps of the frames, ascending, in units of `time_base` seconds. `keyframes` are the frames
    that can be decoded without others, as (tick, decoding tick). `rotation`: degrees, clockwise, by which a player
    rotates the picture.
    """

    path: Path
    probe: Probe
    ticks: Sequence[int]
    keyframes: Sequence[tuple[int, int]]
    time_base: Fraction
    rotation: int

    def second(self, frame: int) -> float:
        """The timestamp of a frame, in seconds."""
        return float(self.ticks[frame] * self.time_base)

    def frame_at(self, second: float) -> int:
        """The frame displayed at this time; the first or the last one if the time is out of range."""
        tick = Fraction(second + TOLERANCE_S) / self.time_base
        return max(0, bisect_right(self.ticks, tick) - 1)

    def nearest_frame(self, second: float) -> int:
        """The frame whose timestamp is nearest to this time."""
        frame = self.frame_at(second)
        following = min(frame + 1, len(self.ticks) - 1)
        return min((frame, following), key=lambda each: abs(self.second(each) - second))

    def cheapest_frame(self, second: float, max_distance_s: float) -> int:
        """The frame nearest to this time. In a very large video, a keyframe if one is within `max_distance_s` of it."""
        frame = self.nearest_frame(second)
        if self.probe.width * self.probe.height <= _LARGE_PIXELS:
            return frame
        tick = self.ticks[frame]
        keyframe = min((keyframe for keyframe, _ in self.keyframes), key=lambda each: abs(each - tick))
        if abs(keyframe - tick) * self.time_base > max_distance_s:
            return frame
        return bisect_right(self.ticks, keyframe) - 1

    def pictures(self, frames: Sequence[int], width: int, height: int) -> Iterator[tuple[int, Image.Image]]:
        """Pictures of `frames` (ascending), upright, scaled to `width` x `height` pixels. A damaged frame is replaced
        by the next intact one. Raises Unviewable if a frame turns out larger than the file announced."""
        frame_numbers = {tick: frame for frame, tick in enumerate(self.ticks)}
        coded = (width, height) if self.rotation % 180 == 0 else (height, width)
        with open_video(self.path) as (container, stream):
            for picture in _decode_at(container, stream, [self.ticks[frame] for frame in frames], self.keyframes):
                if max(picture.width, picture.height) > MAX_SIDE:
                    raise Unviewable("too_large", self.path.name)
                image = picture.to_image(width=coded[0], height=coded[1], interpolation="BICUBIC")  # type: ignore[no-untyped-call]
                yield (
                    frame_numbers[picture.pts or 0],
                    image.rotate(-self.rotation, expand=True) if self.rotation else image,
                )


def read_film(video: Path) -> Film:
    """Read the timestamps and properties of a file. Raises Unviewable, or NotConfigured without the extra `media`."""
    with open_video(video) as (container, stream):
        if stream.codec_context is None or not (stream.width and stream.height):
            raise Unviewable("empty", video.name)
        if max(stream.width, stream.height) > MAX_SIDE:
            raise Unviewable("too_large", video.name)
        durations, keyframes = _timestamps(container, stream, video.name)
        ticks, time_base = sorted(durations), Fraction(stream.time_base or 1)
        container.seek(keyframes[0][1], stream=stream)
        first = next(_decode(container, stream, {keyframes[0][0]}), None)
        if first is None:
            raise Unviewable("unreadable", video.name)
        rotation = -round(first.rotation) % 360
        width, height = _display_size(first, stream)
        if rotation % 180:
            width, height = height, width
        end = ticks[-1] + _last_duration(ticks, durations[ticks[-1]] or 0, stream)
        steps = [after - before for before, after in pairwise(ticks)]
        is_variable = bool(steps) and (max(steps) - min(steps)) * time_base > 2 * TOLERANCE_S
        probe = Probe(
            codec=stream.codec_context.name,
            width=width,
            height=height,
            n_frames=len(ticks),
            fps=float(_rate(ticks, time_base, is_variable=is_variable) or stream.average_rate or 1),
            duration_s=float(end * time_base),
            is_variable=is_variable,
        )
        return Film(video, probe, ticks, keyframes, time_base, rotation)


def _timestamps(
    container: InputContainer, stream: VideoStream, name: str
) -> tuple[dict[int, int | None], list[tuple[int, int]]]:
    """The timestamp and duration of each frame, and the keyframes to seek to; in ticks. Nothing is decoded."""
    durations: dict[int, int | None] = {}
    keyframes: list[tuple[int, int]] = []
    for packet in container.demux(stream):
        if not packet.size or packet.is_discard:
            continue
        tick = packet.pts if packet.pts is not None else packet.dts
        if tick is None:
            raise Unviewable("unreadable", name)
        if not durations and packet.has_sidedata("encryption_info"):
            raise Unviewable("encrypted", name)
        durations[tick] = packet.duration
        if packet.is_keyframe:
            keyframes.append((tick, tick if packet.dts is None else packet.dts))
        if len(durations) > MAX_FRAMES:
            raise Unviewable("too_long", name)
    if not durations:
        raise Unviewable("empty", name)
    return durations, sorted(keyframes) or [(min(durations), min(durations))]


def _last_duration(ticks: Sequence[int], declared: int, stream: VideoStream) -> int:
    """The duration of the last frame in ticks: the declared one, unless it is implausibly short."""
    time_base = Fraction(stream.time_base or 1)
    if declared * time_base >= _MIN_FRAME_S:
        return declared
    if len(ticks) > 1:
        return ticks[-1] - ticks[-2]
    return round(1 / (stream.average_rate * time_base)) if stream.average_rate else declared


def _rate(ticks: Sequence[int], time_base: Fraction, *, is_variable: bool) -> Fraction | None:
    """Frames per second; None for a single frame. A constant rate is an exact fraction, such as 30000/1001."""
    if len(ticks) < 2:
        return None
    rate = (len(ticks) - 1) / ((ticks[-1] - ticks[0]) * time_base)
    return rate if is_variable else rate.limit_denominator(1001)


def _display_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height in square pixels."""
    ratio = stream.sample_aspect_ratio
    if not ratio or ratio == 1 or not Fraction(1, 8) < ratio < 8:
        return frame.width, frame.height
    return max(1, round(frame.width * ratio)), frame.height


def _decode_at(
    container: InputContainer, stream: VideoStream, ticks: Sequence[int], keyframes: Sequence[tuple[int, int]]
) -> Iterator[VideoFrame]:
    """The frames at `ticks` (ascending), each once."""
    wanted, starts = set(ticks), [tick for tick, _ in keyframes]
    decoding: Iterator[VideoFrame] = iter(())
    last: VideoFrame | None = None
    for tick in ticks:
        if last is not None and (last.pts or 0) >= tick:
            continue  # it replaced a damaged frame
        keyframe = keyframes[max(0, bisect_right(starts, tick) - 1)]
        if last is None or keyframe[0] > (last.pts or 0):
            container.seek(keyframe[1], stream=stream)
            decoding = _decode(container, stream, wanted)
        frame = _next_at_or_after(decoding, tick)
        if frame is not None and frame.pts != tick and keyframe != keyframes[0]:  # the seek went too far: start over
            container.seek(keyframes[0][1], stream=stream)
            decoding = _decode(container, stream, wanted)
            frame = _next_at_or_after(decoding, tick)
        if frame is None:
            return
        last = frame
        yield frame


def _next_at_or_after(frames: Iterator[VideoFrame], tick: int) -> VideoFrame | None:
    return next((frame for frame in frames if frame.pts is not None and frame.pts >= tick), None)


def _decode(container: InputContainer, stream: VideoStream, wanted: set[int]) -> Iterator[VideoFrame]:
    """Decode from the current position. Frames that no other frame needs are skipped unless they are wanted; damaged
    ones are skipped too.

    Raises MemoryError, also if a decoder that got no memory reports its data as damaged.
    """
    import av  # noqa: PLC0415

    codec = stream.codec_context
    for packet in container.demux(stream):
        is_wanted = not packet.size or packet.pts in wanted
        codec.skip_frame = "DEFAULT" if is_wanted else "NONREF"
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            bytearray(_DECODER_BYTES_PER_PIXEL * codec.width * codec.height)


@contextmanager
def open_video(video: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its video stream. Raises NotConfigured, and Unviewable, also for PyAV errors in the body."""
    require()
    import av  # noqa: PLC0415
    from av.stream import Disposition  # noqa: PLC0415

    try:
        with av.open(str(video), options=_READ_ONLY_VIDEOS) as container:
            streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
            if not streams:
                raise Unviewable("no_film" if container.streams.audio else "empty", video.name)
            codec = streams[0].codec_context
            if codec is not None:
                is_large = streams[0].width * streams[0].height > _LARGE_PIXELS
                max_threads = MAX_THREADS_LARGE if is_large else MAX_THREADS
                codec.thread_type, codec.thread_count = "AUTO", min(max_threads, os.cpu_count() or 1)
            yield container, streams[0]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        no_thread = getattr(error, "errno", None) == errno.EAGAIN
        reason: Reason = "memory" if isinstance(error, MemoryError) or no_thread else "unreadable"
        raise Unviewable(reason, video.name) from None
