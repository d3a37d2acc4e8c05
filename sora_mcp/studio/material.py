"""What a request needs of earlier videos, fetched before anything is paid: files, pictures of frames, addresses.

A saved file is used if there is one; else it is fetched like a download: bounded, and with the key only to the
gateway's own address. It is decoded in a separate process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
from msgspec import Struct, field

from sora_mcp import media
from sora_mcp.core.advice import CheckAgain, Do, Save, TryAgain
from sora_mcp.core.errors import BadReply, InvalidInput, NotReady, Problem
from sora_mcp.core.tasks import Generation
from sora_mcp.dialects.protocol import Measurements, Need, Picture, SourceVideo
from sora_mcp.ledger import Entry
from sora_mcp.media.viewer import Viewer
from sora_mcp.studio.files import Files, Refresh
from sora_mcp.studio.generations import usable_generation
from sora_mcp.studio.lookup import Source
from sora_mcp.studio.sources import name_of

FETCH_TIMEOUT_S = 20.0
"""Seconds to fetch all that a request needs: with the time before it and the POST, a call has 50."""
_MAX_VIDEO_BYTES = 500_000_000
"""Bytes of the largest video from which a frame is taken."""
_USE_ANOTHER = Do("Use another video, or a smaller one.")


class Material(Struct, frozen=True):
    """What was fetched: pictures of frames by item, and what is needed of the source of a remix."""

    images: dict[int, Picture] = field(default_factory=dict)
    source: SourceVideo | None = None


def check(needs: Sequence[Need]) -> None:
    """Raise NotConfigured if what is needed cannot be made here, whatever the videos are."""
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
    """Fetch what a plan needs. Raises SoraError if that fails: then nothing may be sent."""
    images: dict[int, Picture] = {}
    source: SourceVideo | None = None
    deadline = anyio.current_time() + FETCH_TIMEOUT_S
    for need in needs:
        entry, generation = videos[need.item]
        with _fetch_deadline(entry, deadline):
            if need.kind == "address":
                source = await _address(entry, generation, files, refresh)
            elif need.kind == "file":
                source = await _file(need, entry, generation, files, viewer)
            elif need.item is not None:
                images[need.item] = await _frame(need, entry, generation, files, viewer)
    return Material(images, source)


@contextmanager
def _fetch_deadline(entry: Entry, deadline: float) -> Iterator[None]:
    with anyio.CancelScope(deadline=deadline) as scope:
        yield
    if scope.cancelled_caught:
        message = f"The video of {entry.id} could not be fetched within {FETCH_TIMEOUT_S:g} s."
        raise BadReply(message, Save(entry.id), TryAgain())


async def _address(entry: Entry, generation: Generation, files: Files, refresh: Refresh) -> SourceVideo:
    """Return a video with its address as the gateway gives it now: addresses are short-lived. One on this machine or
    network is enough for a gateway that is there."""
    entry = await refresh(entry)
    url = usable_generation(entry, generation.variant, "source_generation_id").url or ""
    if not url.startswith("https://") and (url.startswith("/") or not url or not files.is_local):
        message = f"The gateway gives no address from which it could fetch {entry.id} itself."
        raise NotReady(message, CheckAgain(entry.id), is_pending=False)
    return SourceVideo(name=name_of(entry, generation), address=url)


async def _file(need: Need, entry: Entry, generation: Generation, files: Files, viewer: Viewer) -> SourceVideo:
    name = name_of(entry, generation)
    async with files.bounded_file(entry, generation.variant, need.max_bytes, if_larger=_USE_ANOTHER) as path:
        content = await path.read_bytes()
        probe = (await viewer.frame(Path(path), 0, name, max_bytes=need.max_bytes)).probe
    measurements = Measurements(probe.width, probe.height, probe.n_frames, probe.fps)
    return SourceVideo(name=name, measurements=measurements, content=content)


async def _frame(need: Need, entry: Entry, generation: Generation, files: Files, viewer: Viewer) -> Picture:
    name = name_of(entry, generation)
    async with files.bounded_file(entry, generation.variant, _MAX_VIDEO_BYTES, if_larger=_USE_ANOTHER) as path:
        frame = await viewer.frame(Path(path), need.frame, name, max_bytes=need.max_bytes)
    if not frame.picture:
        problem = f"{name} has {frame.probe.n_frames} frames, so none has the index {need.frame}"
        raise InvalidInput([Problem(f"inpaint_items[{need.item}]", problem, f"0 to {frame.probe.n_frames - 1}")])
    return Picture("frame.jpg", frame.picture, "image/jpeg")
