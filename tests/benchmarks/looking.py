"""Viewing a video: a sheet of a ten-second one, compared with decoding all of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from measures import Row
from processes import run

ROUNDS = 3

_FILM = """
import sys, av
from PIL import Image
noise = Image.effect_noise((2220, 1080), 60).convert("RGB")
with av.open(sys.argv[1], "w") as file:
    stream = file.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "30"})
    stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
    for number in range(300):
        frame = av.VideoFrame.from_image(noise.crop((number, 0, number + 1920, 1080)))
        frame.pts = number
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))
"""
_SHEET = """
import sys, resource, anyio
from pathlib import Path
from sora_mcp.core.pictures import View
from sora_mcp.media.stills import Reel
from sora_mcp.media.viewer import Viewer
anyio.run(Viewer().sheet, [Reel(Path(sys.argv[1]))], View(), ["It"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
_WHOLE = """
import sys, resource, av
with av.open(sys.argv[1]) as file:
    file.streams.video[0].thread_type = "AUTO"
    for frame in file.decode(video=0):
        frame.to_image(width=424, height=238)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def looking(folder: Path) -> Iterator[Row]:
    """A sheet of six stills: the time including the worker's start, and the memory of worker and parent."""
    folder.mkdir(parents=True, exist_ok=True)
    film = folder / "film.mp4"
    run((sys.executable, "-c", _FILM, str(film)))  # in a process of its own: see `run.measure`
    took: dict[str, list[float]] = {_SHEET: [], _WHOLE: []}
    peaks: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for program, times in took.items():
            began = time.perf_counter()
            answer = run((sys.executable, "-c", program, str(film)))[1]
            times.append(time.perf_counter() - began)
            peaks[program] = [float(each) / 1024 for each in answer.split()]
    ours, whole = median(took[_SHEET]), median(took[_WHOLE])
    yield Row("a sheet of a 10 s 1080p film (decoding the whole of it)", ours, "s", whole, ours / whole)
    (asks, draws), (decodes,) = peaks[_SHEET], peaks[_WHOLE]
    yield Row(
        "  peak memory of the process that draws it (of one that decodes it)", draws, "MB", decodes, draws / decodes
    )
    yield Row("  peak memory of the one that asks for it", asks, "MB")
