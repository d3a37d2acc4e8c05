"""Videos that are small as files and expensive to decode, and the processes that decode them."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import chain
from pathlib import Path

import anyio
import av

GROUP = 15
"""Frames that are encoded."""
SIDE = 4096
"""Pixels."""


def hostile(path: Path, *, n_frames: int = 3000, can_seek: bool = False) -> Path:
    """Write a video that repeats its first few frames up to `n_frames`. Unless it `can_seek`, all of it has to be
    decoded to reach its end."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "bf": "0", "g": str(GROUP)})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        frame = av.VideoFrame(SIDE, SIDE, "yuv420p")
        for plane in frame.planes:  # a new frame contains uninitialized memory, which may not compress
            plane.update(bytes(plane.buffer_size))
        packets: list[bytes] = []
        for index in range(GROUP):
            frame.pts = index
            packets += [bytes(packet) for packet in stream.encode(frame)]
        packets += [bytes(packet) for packet in stream.encode(None)]
        for index in range(n_frames):
            packet = av.Packet(packets[index % len(packets)])
            packet.stream, packet.pts, packet.dts = stream, index, index
            packet.time_base, packet.duration = stream.codec_context.time_base, 1
            packet.is_keyframe = index % len(packets) == 0 if can_seek else index == 0
            container.mux(packet)
    return path


def children(pid: int) -> set[int]:
    """The running child processes of a process (Linux)."""
    children_lists = [task.read_text().split() for task in Path("/proc").glob(f"{pid}/task/*/children")]
    return {int(each) for each in chain(*children_lists) if is_running(int(each))}


def is_running(pid: int) -> bool:
    """Whether a process is running (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def new_child(pid: int, known: set[int]) -> int:
    """The next process that this one starts."""
    with anyio.fail_after(30):
        while not (new := children(pid) - known):  # noqa: ASYNC110 - Linux has no event for a new process
            await anyio.sleep(0.02)
    return new.pop()


async def wait_until_exited(pid: int, seconds: float) -> None:
    """Raises TimeoutError if it is still running then."""
    with suppress(ProcessLookupError):
        file = os.pidfd_open(pid)
        try:
            with anyio.fail_after(seconds):
                await anyio.wait_readable(file)
        finally:
            os.close(file)
