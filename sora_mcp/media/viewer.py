"""Viewing of videos in worker processes: a few at a time, each with a timeout, killed if the caller is cancelled.

A video is untrusted data: decoding it may never end, use up all memory, or crash. Neither PyAV nor Pillow is loaded in
this process.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from copy import copy
from pathlib import Path
from typing import Any, get_args

import anyio
from msgspec import to_builtins

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.pictures import Moment, PictureFormat, View, format_of
from sora_mcp.media import child
from sora_mcp.media.board import Board
from sora_mcp.media.extra import not_installed, require_installed
from sora_mcp.media.film import Probe
from sora_mcp.media.frames import Frame
from sora_mcp.media.stills import Reel, Sheet, Still
from sora_mcp.media.unviewable import VIEW_TIMEOUT_S, Reason, Unviewable

logger = logging.getLogger(__name__)

MEMORY_BYTES = 1_500_000_000
"""Memory (address space) of one worker. A video of 4096x4096 takes half of it."""
QUEUE_TIMEOUT_S = 20.0
"""Seconds that a call waits for a slot: hosts give up after 60, and the video may have to be downloaded first."""
MAX_ANSWER_BYTES = 16_000_000
"""Limit of a worker's answer; a sheet has at most a tenth of it, unless it is all noise."""

_WORKER = "sora_mcp.media.worker"


class Viewer:
    """Draws sheets and boards for one server.

    All methods raise Unviewable (a FileProblem), also if it takes longer than `seconds` or more memory than
    `memory_bytes`, and NotConfigured without the extra `media`.
    """

    def __init__(self) -> None:
        self._slots = child.Slots()
        self._scopes: set[anyio.CancelScope] = set()
        self._closed = anyio.Event()

    def for_owner(self) -> Viewer:
        """The same for one of several owners, with a queue of its own."""
        own = copy(self)
        own._slots = self._slots.for_owner()  # noqa: SLF001 - a copy of this one
        return own

    def close(self) -> None:
        """Cancel all running jobs and accept no more: the server is shutting down."""
        self._closed.set()
        for scope in self._scopes:
            scope.cancel()

    async def sheet(
        self,
        reels: Sequence[Reel],
        view: View,
        names: Sequence[str],
        *,
        picture_format: PictureFormat = "jpeg",
        seconds: float = VIEW_TIMEOUT_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> Sheet:
        """Draw a sheet of stills; errors refer to each video by its entry in `names`.

        Also raises InvalidInput if a requested frame or time is past the end of a video.
        """
        details = {
            "reels": [{"path": str(reel.path), "title": reel.title, "beats": reel.beats} for reel in reels],
            "view": to_builtins(view),
            "picture_format": picture_format,
        }
        names_by_file = {reel.path.name: name for reel, name in zip(reels, names, strict=True)}
        answer = await self._run_job("sheet", details, " and ".join(names), seconds, memory_bytes)
        return _parse_sheet(answer, names, names_by_file)

    async def frame(self, video: Path, index: int | None, name: str, *, max_bytes: int) -> Frame:
        """Return one frame (None: the last) as a JPEG of at most `max_bytes`, empty if there is no such frame; errors
        refer to the video by `name`."""
        details = {"path": str(video), "index": index, "max_bytes": max_bytes}
        answer = await self._run_job("frame", details, name, VIEW_TIMEOUT_S, MEMORY_BYTES)
        reply, picture = _parse(answer, name, {})
        return Frame(picture, Probe(**reply["probe"]))

    async def board(
        self,
        board: Board,
        *,
        picture_format: PictureFormat = "jpeg",
        seconds: float = VIEW_TIMEOUT_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> bytes:
        """Draw a storyboard as a picture."""
        details = {"board": to_builtins(board), "picture_format": picture_format}
        answer = await self._run_job("board", details, "The storyboard", seconds, memory_bytes)
        return _parse(answer, "The storyboard", {})[1]

    async def _run_job(self, job: str, details: Any, name: str, seconds: float, memory_bytes: int) -> bytes:
        """Run one job in a worker, and return its answer. The worker is dead by then."""
        require_installed()
        request = {"job": job, "details": details, "seconds": seconds, "memory_bytes": memory_bytes}
        async with self._slot(name):
            with self._scope(seconds):
                return await child.run_worker(_WORKER, request, b"", max_bytes=MAX_ANSWER_BYTES)
            raise Unviewable("stopped" if self._closed.is_set() else "slow", name)

    @contextmanager
    def _scope(self, seconds: float) -> Iterator[None]:
        """Cancel the body after `seconds`, or at `close`."""
        with anyio.move_on_after(0 if self._closed.is_set() else seconds) as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    @asynccontextmanager
    async def _slot(self, name: str) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._slots.acquire(QUEUE_TIMEOUT_S))
            except TimeoutError:
                raise Unviewable("busy", name) from None
            yield


def _parse(answer: bytes, name: str, names_by_file: dict[str, str]) -> tuple[dict[str, Any], bytes]:
    """Split an answer into its fields and the picture. Raises Unviewable if there is no picture, and NotConfigured."""
    head, _, picture = answer.partition(b"\n")
    try:
        reply = dict(json.loads(head))
        reason = reply.get("reason")
        if reason == "not_installed":
            raise not_installed()
        if reason is not None and reason in get_args(Reason):
            raise Unviewable(reason, names_by_file.get(str(reply.get("name")), name))
        if "not_in_film" in reply or "probe" in reply or format_of(picture) is not None:
            return reply, picture
    except (ValueError, TypeError):
        pass
    logger.warning("the process that looks at a video ended without an answer")
    raise Unviewable("ended", name)


def _parse_sheet(answer: bytes, names: Sequence[str], names_by_file: dict[str, str]) -> Sheet:
    name = " and ".join(names)
    reply, picture = _parse(answer, name, names_by_file)
    try:
        if "not_in_film" in reply:
            reel, moment, probe = reply["not_in_film"]
            raise _not_in_film(names[reel], Moment(**moment), Probe(**probe))
        probes = tuple(Probe(**each) for each in reply["probes"])
        stills = tuple(Still(**each) for each in reply["stills"])
        return Sheet(picture, probes, stills, tuple(reply["beats"]), int(reply["missing"]))
    except (TypeError, KeyError, IndexError, ValueError):
        raise Unviewable("ended", name) from None


def _not_in_film(name: str, moment: Moment, probe: Probe) -> InvalidInput:
    """The error for a frame or time past the end of a video, with what the video has."""
    seconds = f"{round(probe.duration_s, 2):g}"
    message = f"{moment} is past the end: {name[:1].lower()}{name[1:]} has {probe.n_frames} frames, {seconds} s"
    allowed = f'a frame from 0 to {probe.n_frames - 1}, or a time up to "{seconds}s"'
    return InvalidInput([Problem("at", message, allowed)])
