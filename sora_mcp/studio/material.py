"""What a request needs of earlier videos, got before anything is paid: files, pictures of frames, addresses.

A file is taken from where it is saved, else fetched as a download is: bounded, and with the key only to the gateway's
own address. It is decoded in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
from msgspec import Struct, field

from sora_mcp import media
from sora_mcp.core.advice import Do, LookAgain, Save, TryAgain
from sora_mcp.core.errors import BadReply, InvalidInput, NotReady, Problem
from sora_mcp.core.tasks import Generation
from sora_mcp.dialects.protocol import Measurements, Need, Picture, SourceVideo
from sora_mcp.ledger import Entry
from sora_mcp.media.viewer import Viewer
from sora_mcp.studio.files import Files, Refresh
from sora_mcp.studio.generations import usable_generation
from sora_mcp.studio.lookup import Source
from sora_mcp.studio.sources import name_of

FETCH_WITHIN = 20.0
"""Seconds for all that a request needs: with the time before it and the POST, a call has 50."""
_WHOLE_VIDEO = 500_000_000
"""Bytes of the largest video that a frame is taken of."""
_ANOTHER = Do("Use another video, or a smaller one.")


class Material(Struct, frozen=True):
    """What was got: pictures of frames by item, and what is needed of the source of a remix."""

    images: dict[int, Picture] = field(default_factory=dict)
    source: SourceVideo | None = None


def check(needs: Sequence[Need]) -> None:
    """Raise NotConfigured where what is needed cannot be got here, whatever the videos are."""
    if any(need.kind != "address" for need in needs):
        media.require_installed()


async def fetch(
    needs: Sequence[Need],
    videos: Mapping[int | None, Source],
    files: Files,
    *,
    refresh: Refresh,
    viewer: Viewer,
) -> Material:
    """What a plan needs. Raises SoraError where that cannot be had: then nothing may be sent."""
    images: dict[int, Picture] = {}
    source: SourceVideo | None = None
    deadline = anyio.current_time() + FETCH_WITHIN
    for need in needs:
        entry, generation = videos[need.item]
        with _in_time(entry, deadline):
            if need.kind == "address":
                source = await _address(entry, generation, files, refresh)
            elif need.kind == "file":
                source = await _file(need, entry, generation, files, viewer)
            elif need.item is not None:
                images[need.item] = await _frame(need, entry, generation, files, viewer)
    return Material(images, source)


@contextmanager
def _in_time(entry: Entry, deadline: float) -> Iterator[None]:
    with anyio.CancelScope(deadline=deadline) as scope:
        yield
    if scope.cancelled_caught:
        message = f"The video of {entry.id} could not be fetched within {FETCH_WITHIN:g} s."
        raise BadReply(message, Save(entry.id), TryAgain())


async def _address(entry: Entry, generation: Generation, files: Files, refresh: Refresh) -> SourceVideo:
    """Its address as the gateway gives it now: such are short-lived. One on this machine or network is enough for a
    gateway that is there."""
    entry = await refresh(entry)
    url = usable_generation(entry, generation.variant, "source_generation_id").url or ""
    if not url.startswith("https://") and (url.startswith("/") or not url or not files.is_local):
        words = f"The gateway gives no address for {entry.id} that it could fetch it from itself."
        raise NotReady(words, LookAgain(entry.id), will_be=False)
    return SourceVideo(name=name_of(entry, generation), address=url)


async def _file(need: Need, entry: Entry, generation: Generation, files: Files, viewer: Viewer) -> SourceVideo:
    name = name_of(entry, generation)
    async with files.bounded(entry, generation.variant, need.max_bytes, if_larger=_ANOTHER) as path:
        content = await path.read_bytes()
        about = (await viewer.frame(Path(path), 0, name, max_bytes=need.max_bytes)).probe
    measurements = Measurements(about.width, about.height, about.n_frames, about.fps)
    return SourceVideo(name=name, measurements=measurements, content=content)


async def _frame(need: Need, entry: Entry, generation: Generation, files: Files, viewer: Viewer) -> Picture:
    name = name_of(entry, generation)
    async with files.bounded(entry, generation.variant, _WHOLE_VIDEO, if_larger=_ANOTHER) as path:
        one = await viewer.frame(Path(path), need.frame, name, max_bytes=need.max_bytes)
    if not one.picture:
        wrong = f"{name} has {one.probe.n_frames} frames, so none has the index {need.frame}"
        raise InvalidInput([Problem(f"inpaint_items[{need.item}]", wrong, f"0 to {one.probe.n_frames - 1}")])
    return Picture("frame.jpg", one.picture, "image/jpeg")
