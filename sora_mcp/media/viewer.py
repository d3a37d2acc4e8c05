"""Looking at videos in a process of its own: a few at once, each for a while, and ended with whoever asked for it.

What a video holds is data from outside: decoding it may take for ever, take all memory, or crash. Nothing of PyAV or
Pillow is loaded in this process.
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
from sora_mcp.media.unviewable import WITHIN, Reason, Unviewable

logger = logging.getLogger(__name__)

MEMORY_BYTES = 1_500_000_000
"""Memory (address space) of one such process. A video of 4096x4096 takes half of it."""
WAIT_WITHIN = 20.0
"""Seconds that a call waits for its turn: hosts give up after 60, and the video may have to be downloaded first."""
MOST_BYTES = 16_000_000
"""The largest answer of such a process that is read; a sheet has at most a tenth of it, unless it is all noise."""

_WORKER = "sora_mcp.media.worker"


class Viewer:
    """Draws sheets and boards for one server.

    All methods raise Unviewable (a FileProblem), also where it takes longer than `seconds` or more memory than
    `memory_bytes`, and NotConfigured without the extra `media`.
    """

    def __init__(self) -> None:
        self._turns = child.Turns()
        self._scopes: set[anyio.CancelScope] = set()
        self._closed = anyio.Event()

    def for_one(self) -> Viewer:
        """The same for one of several people, with turns of their own."""
        own = copy(self)
        own._turns = self._turns.for_one()  # noqa: SLF001 - a copy of this one
        return own

    def close(self) -> None:
        """End everything that is being looked at, and begin nothing more: the server is to end."""
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
        seconds: float = WITHIN,
        memory_bytes: int = MEMORY_BYTES,
    ) -> Sheet:
        """Stills of videos; errors call each by its one of `names`.

        Raises InvalidInput, too, where a frame or time that is wanted lies past the end of one.
        """
        details = {
            "reels": [{"path": str(reel.path), "title": reel.title, "beats": reel.beats} for reel in reels],
            "view": to_builtins(view),
            "picture_format": picture_format,
        }
        by_file = {reel.path.name: name for reel, name in zip(reels, names, strict=True)}
        answer = await self._ask("sheet", details, " and ".join(names), seconds, memory_bytes)
        return _sheet(answer, names, by_file)

    async def frame(self, video: Path, index: int | None, name: str, *, max_bytes: int) -> Frame:
        """One frame (None: the last) as a JPEG of at most `max_bytes`, empty where there is no such frame; errors call
        the video by `name`."""
        details = {"path": str(video), "index": index, "max_bytes": max_bytes}
        answer = await self._ask("frame", details, name, WITHIN, MEMORY_BYTES)
        reply, picture = _read(answer, name, {})
        return Frame(picture, Probe(**reply["probe"]))

    async def board(
        self,
        board: Board,
        *,
        picture_format: PictureFormat = "jpeg",
        seconds: float = WITHIN,
        memory_bytes: int = MEMORY_BYTES,
    ) -> bytes:
        """A storyboard as a picture."""
        details = {"board": to_builtins(board), "picture_format": picture_format}
        answer = await self._ask("board", details, "The storyboard", seconds, memory_bytes)
        return _read(answer, "The storyboard", {})[1]

    async def _ask(self, job: str, details: Any, name: str, seconds: float, memory_bytes: int) -> bytes:
        """What a process answers that is gone when this returns."""
        require_installed()
        asked = {"job": job, "details": details, "seconds": seconds, "memory_bytes": memory_bytes}
        async with self._turn(name):
            with self._scope(seconds):
                return await child.answer_of(_WORKER, asked, b"", most_bytes=MOST_BYTES)
            raise Unviewable("stopped" if self._closed.is_set() else "slow", name)

    @contextmanager
    def _scope(self, seconds: float) -> Iterator[None]:
        """Whatever takes longer is cancelled, and everything at `close`."""
        with anyio.move_on_after(0 if self._closed.is_set() else seconds) as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        async with AsyncExitStack() as taken:
            try:
                await taken.enter_async_context(self._turns.take(WAIT_WITHIN))
            except TimeoutError:
                raise Unviewable("busy", name) from None
            yield


def _read(answer: bytes, name: str, by_file: dict[str, str]) -> tuple[dict[str, Any], bytes]:
    """What a process said, and the picture. Raises Unviewable where there is none, and NotConfigured."""
    head, _, picture = answer.partition(b"\n")
    try:
        reply = dict(json.loads(head))
        reason = reply.get("reason")
        if reason == "not_installed":
            raise not_installed()
        if reason is not None and reason in get_args(Reason):
            raise Unviewable(reason, by_file.get(str(reply.get("name")), name))
        if "not_in_film" in reply or "probe" in reply or format_of(picture) is not None:
            return reply, picture
    except (ValueError, TypeError):
        pass
    logger.warning("the process that looks at a video ended without an answer")
    raise Unviewable("ended", name)


def _sheet(answer: bytes, names: Sequence[str], by_file: dict[str, str]) -> Sheet:
    name = " and ".join(names)
    reply, picture = _read(answer, name, by_file)
    try:
        if "not_in_film" in reply:
            reel, moment, about = reply["not_in_film"]
            raise _not_in_film(names[reel], Moment(**moment), Probe(**about))
        probes = tuple(Probe(**each) for each in reply["probes"])
        stills = tuple(Still(**each) for each in reply["stills"])
        return Sheet(picture, probes, stills, tuple(reply["beats"]), int(reply["missing"]))
    except (TypeError, KeyError, IndexError, ValueError):
        raise Unviewable("ended", name) from None


def _not_in_film(name: str, moment: Moment, about: Probe) -> InvalidInput:
    """What a video has instead of a frame or time that it has not."""
    seconds = f"{round(about.duration_s, 2):g}"
    wrong = f"{moment} is past the end: {name[:1].lower()}{name[1:]} has {about.n_frames} frames, {seconds} s"
    allowed = f'a frame from 0 to {about.n_frames - 1}, or a time up to "{seconds}s"'
    return InvalidInput([Problem("at", wrong, allowed)])
