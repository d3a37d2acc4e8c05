"""A video file as it really is: its frames, when each is shown, and pictures of some of them.

Times are the file's own timestamps, so that they hold for any rate, also one that varies. Frames are sought, not
counted off: what lies between two of them is decoded only as far as it has to be. All of it is synchronous, and a file
from outside can make it take for ever: `viewer` runs it in a process that can be ended.
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
"""Threads that decode one video: each holds frames of its own."""
MAX_THREADS_LARGE = 2
"""The same of a video with more pixels than `_LARGE`."""
_LARGE = 4096 * 2304
_ROOM = 4
"""Bytes for each pixel, those of two or three frames, without which a decoder may have had none for the next."""

_READ_ONLY_VIDEOS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
    "protocol_whitelist": "file",
}
"""What calls itself a video may be a playlist, which would have other files and addresses opened."""

TOLERANCE_S = 0.002
"""Seconds by which a container may round its times: Matroska has thousandths."""

_SHORTEST_STEP_S = 0.004
"""Seconds; encoders that know no end write a last frame of a tick."""


class Probe(Struct, frozen=True):
    """What a video file really holds: pixels as they are shown, frames, seconds.

    `fps`: frames per second, on the average where `is_variable`. `duration_s`: until its last frame has been shown.
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

    `ticks`: when each frame is shown, rising, in units of `time_base` seconds. `keys`: the frames that can be decoded
    without others, as (tick, decoding tick). `rotation`: degrees, clockwise, by which a player turns the picture.
    """

    path: Path
    probe: Probe
    ticks: Sequence[int]
    keys: Sequence[tuple[int, int]]
    time_base: Fraction
    rotation: int

    def second(self, frame: int) -> float:
        """When a frame is shown."""
        return float(self.ticks[frame] * self.time_base)

    def frame_at(self, second: float) -> int:
        """The frame that is shown at a time; the first before it, the last after it."""
        tick = Fraction(second + TOLERANCE_S) / self.time_base
        return max(0, bisect_right(self.ticks, tick) - 1)

    def nearest(self, second: float) -> int:
        """The frame that begins nearest to a time."""
        frame = self.frame_at(second)
        following = min(frame + 1, len(self.ticks) - 1)
        return min((frame, following), key=lambda each: abs(self.second(each) - second))

    def cheapest(self, second: float, within_s: float) -> int:
        """The frame nearest to a time; of a film with very many pixels one that needs no other, if there is one within
        so many seconds of it."""
        frame = self.nearest(second)
        if self.probe.width * self.probe.height <= _LARGE:
            return frame
        tick = self.ticks[frame]
        key = min((key for key, _ in self.keys), key=lambda each: abs(each - tick))
        if abs(key - tick) * self.time_base > within_s:
            return frame
        return bisect_right(self.ticks, key) - 1

    def pictures(self, frames: Sequence[int], width: int, height: int) -> Iterator[tuple[int, Image.Image]]:
        """Some frames, rising, fitted into `width` x `height` pixels and upright. One that is damaged is the next that
        is not. Raises Unviewable where the file changed its mind about its size."""
        shown_at = {tick: frame for frame, tick in enumerate(self.ticks)}
        coded = (width, height) if self.rotation % 180 == 0 else (height, width)
        with opened(self.path) as (container, stream):
            for picture in _decoded(container, stream, [self.ticks[frame] for frame in frames], self.keys):
                if max(picture.width, picture.height) > MAX_SIDE:
                    raise Unviewable("too_large", self.path.name)
                image = picture.to_image(width=coded[0], height=coded[1], interpolation="BICUBIC")  # type: ignore[no-untyped-call]
                yield shown_at[picture.pts or 0], image.rotate(-self.rotation, expand=True) if self.rotation else image


def read(video: Path) -> Film:
    """Read a file through. Raises Unviewable, and NotConfigured without the extra `media`."""
    with opened(video) as (container, stream):
        if stream.codec_context is None or not (stream.width and stream.height):
            raise Unviewable("empty", video.name)
        if max(stream.width, stream.height) > MAX_SIDE:
            raise Unviewable("too_large", video.name)
        shown, keys = _timestamps(container, stream, video.name)
        ticks, time_base = sorted(shown), Fraction(stream.time_base or 1)
        container.seek(keys[0][1], stream=stream)
        first = next(_frames(container, stream, {keys[0][0]}), None)
        if first is None:
            raise Unviewable("unreadable", video.name)
        rotation = -round(first.rotation) % 360
        width, height = _shown_size(first, stream)
        if rotation % 180:
            width, height = height, width
        end = ticks[-1] + _last_step(ticks, shown[ticks[-1]] or 0, stream)
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
        return Film(video, probe, ticks, keys, time_base, rotation)


def _timestamps(
    container: InputContainer, stream: VideoStream, name: str
) -> tuple[dict[int, int | None], list[tuple[int, int]]]:
    """When each frame is shown and for how long, and the frames to seek; in ticks. Nothing is decoded."""
    shown: dict[int, int | None] = {}
    keys: list[tuple[int, int]] = []
    for packet in container.demux(stream):
        if not packet.size or packet.is_discard:
            continue
        tick = packet.pts if packet.pts is not None else packet.dts
        if tick is None:
            raise Unviewable("unreadable", name)
        if not shown and packet.has_sidedata("encryption_info"):
            raise Unviewable("encrypted", name)
        shown[tick] = packet.duration
        if packet.is_keyframe:
            keys.append((tick, tick if packet.dts is None else packet.dts))
        if len(shown) > MAX_FRAMES:
            raise Unviewable("too_long", name)
    if not shown:
        raise Unviewable("empty", name)
    return shown, sorted(keys) or [(min(shown), min(shown))]


def _last_step(ticks: Sequence[int], said: int, stream: VideoStream) -> int:
    """For how long the last frame is shown: what the file says of it, if that is longer than any film's frame."""
    time_base = Fraction(stream.time_base or 1)
    if said * time_base >= _SHORTEST_STEP_S:
        return said
    if len(ticks) > 1:
        return ticks[-1] - ticks[-2]
    return round(1 / (stream.average_rate * time_base)) if stream.average_rate else said


def _rate(ticks: Sequence[int], time_base: Fraction, *, is_variable: bool) -> Fraction | None:
    """Frames per second; None of a single one. A rate that does not vary is an exact one, such as 30000/1001."""
    if len(ticks) < 2:
        return None
    rate = (len(ticks) - 1) / ((ticks[-1] - ticks[0]) * time_base)
    return rate if is_variable else rate.limit_denominator(1001)


def _shown_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height on a screen, whose pixels are square."""
    ratio = stream.sample_aspect_ratio
    if not ratio or ratio == 1 or not Fraction(1, 8) < ratio < 8:
        return frame.width, frame.height
    return max(1, round(frame.width * ratio)), frame.height


def _decoded(
    container: InputContainer, stream: VideoStream, ticks: Sequence[int], keys: Sequence[tuple[int, int]]
) -> Iterator[VideoFrame]:
    """The frames that are shown at `ticks`, which rise; each once."""
    wanted, starts = set(ticks), [tick for tick, _ in keys]
    running: Iterator[VideoFrame] = iter(())
    last: VideoFrame | None = None
    for tick in ticks:
        if last is not None and (last.pts or 0) >= tick:
            continue  # it stands for a damaged one before it
        key = keys[max(0, bisect_right(starts, tick) - 1)]
        if last is None or key[0] > (last.pts or 0):
            container.seek(key[1], stream=stream)
            running = _frames(container, stream, wanted)
        frame = _until(running, tick)
        if frame is not None and frame.pts != tick and key != keys[0]:  # led too far: from the beginning, then
            container.seek(keys[0][1], stream=stream)
            running = _frames(container, stream, wanted)
            frame = _until(running, tick)
        if frame is None:
            return
        last = frame
        yield frame


def _until(frames: Iterator[VideoFrame], tick: int) -> VideoFrame | None:
    return next((frame for frame in frames if frame.pts is not None and frame.pts >= tick), None)


def _frames(container: InputContainer, stream: VideoStream, wanted: set[int]) -> Iterator[VideoFrame]:
    """Decode from here on. A frame that no other needs is left out, unless it is wanted; so is what is damaged.

    Raises MemoryError, also where a decoder that got no memory takes its data for damaged.
    """
    import av  # noqa: PLC0415

    codec = stream.codec_context
    for packet in container.demux(stream):
        is_wanted = not packet.size or packet.pts in wanted
        codec.skip_frame = "DEFAULT" if is_wanted else "NONREF"
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            bytearray(_ROOM * codec.width * codec.height)


@contextmanager
def opened(video: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file and its film. Raises Unviewable, also for what PyAV raises inside, and NotConfigured."""
    require()
    import av  # noqa: PLC0415
    from av.stream import Disposition  # noqa: PLC0415

    try:
        with av.open(str(video), options=_READ_ONLY_VIDEOS) as container:
            films = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
            if not films:
                raise Unviewable("no_film" if container.streams.audio else "empty", video.name)
            codec = films[0].codec_context
            if codec is not None:
                is_large = films[0].width * films[0].height > _LARGE
                most = MAX_THREADS_LARGE if is_large else MAX_THREADS
                codec.thread_type, codec.thread_count = "AUTO", min(most, os.cpu_count() or 1)
            yield container, films[0]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        no_thread = getattr(error, "errno", None) == errno.EAGAIN
        reason: Reason = "memory" if isinstance(error, MemoryError) or no_thread else "unreadable"
        raise Unviewable(reason, video.name) from None
