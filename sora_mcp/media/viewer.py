"""Looking at a video in a process of its own: a few at once, each for a while, and ended with whoever asked for it.

What a video holds is data from outside: decoding it may take for ever, take all memory, or crash. Nothing of PyAV or
Pillow is loaded in this process.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import anyio
from anyio.abc import Process

from sora_mcp.core.pictures import PictureFormat, format_of
from sora_mcp.media.extra import not_installed, require_installed
from sora_mcp.media.frames import Frame
from sora_mcp.media.stills import Probe, Sheet
from sora_mcp.media.unviewable import WITHIN, Reason, Unviewable

logger = logging.getLogger(__name__)

MEMORY_BYTES = 1_500_000_000
"""Memory (address space) of one such process. A video of 4096x4096 takes half of it."""
AT_ONCE = 2
"""Videos that are looked at at once."""
WAIT_WITHIN = 20.0
"""Seconds that a call waits for its turn: hosts give up after 60, and the video may have to be downloaded first."""
MOST_BYTES = 16_000_000
"""The largest answer of such a process that is read; a sheet has at most a tenth of it, unless it is all noise."""


class Viewer:
    """Draws contact sheets for one server."""

    def __init__(self) -> None:
        self._turns = anyio.Semaphore(AT_ONCE)
        self._scopes: set[anyio.CancelScope] = set()
        self._closed = False

    def close(self) -> None:
        """End everything that is being looked at, and begin nothing more: the server is to end."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()

    async def contact_sheet(
        self,
        video: Path,
        frames: int,
        name: str,
        *,
        picture_format: PictureFormat = "jpeg",
        seconds: float = WITHIN,
        memory_bytes: int = MEMORY_BYTES,
    ) -> Sheet:
        """Up to `frames` (1..16) evenly spaced stills; errors call the video by `name`.

        Raises Unviewable (a FileProblem), also where it takes longer than `seconds` or more memory than `memory_bytes`,
        and NotConfigured without the extra `media`.
        """
        asked = {"video": str(video), "frames": frames, "format": picture_format}
        asked |= {"seconds": seconds, "memory_bytes": memory_bytes}
        sheet = _read(await self._answer(asked, name), name)
        if format_of(sheet.picture) is None:
            raise _ended(name)
        return sheet

    async def frame(self, video: Path, index: int | None, name: str, *, max_bytes: int) -> Frame:
        """One frame (None: the last) as a JPEG of at most `max_bytes`, empty where there is no such frame.

        Raises as `contact_sheet` does.
        """
        asked: dict[str, Any] = {"video": str(video), "index": index, "max_bytes": max_bytes}
        asked |= {"seconds": WITHIN, "memory_bytes": MEMORY_BYTES}
        one = _read(await self._answer(asked, name), name)
        return Frame(one.picture, one.probe)

    async def _answer(self, asked: dict[str, Any], name: str) -> bytes:
        """What a process says that is asked this. Raises Unviewable or NotConfigured."""
        require_installed()
        async with self._turn(name):
            with self._scope(asked["seconds"]):
                return await _answer(json.dumps(asked).encode())
            raise Unviewable("stopped" if self._closed else "slow", name)

    @contextmanager
    def _scope(self, seconds: float) -> Iterator[None]:
        """Whatever takes longer is cancelled, and everything at `close`."""
        with anyio.move_on_after(0 if self._closed else seconds) as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        waiting = anyio.move_on_after(WAIT_WITHIN)
        with waiting:
            await self._turns.acquire()
        if waiting.cancelled_caught:
            raise Unviewable("busy", name)
        try:
            yield
        finally:
            self._turns.release()


async def _answer(asked: bytes) -> bytes:
    """What the process says; empty where it could not be started or said too much. It is gone when this returns."""
    answer = bytearray()
    with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream):
        async with _worker() as process:
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(asked + b"\n")  # and left open: its end would end the process
            async for chunk in process.stdout:
                answer += chunk
                if len(answer) > MOST_BYTES:
                    return b""
    return bytes(answer)


@asynccontextmanager
async def _worker() -> AsyncIterator[Process]:
    """A process that is killed on leaving. In a session of its own: Ctrl-C at a shell is for us, who then end it."""
    command = [sys.executable, "-P", "-m", "sora_mcp.media.worker"]
    process = await anyio.open_process(command, stderr=subprocess.DEVNULL, env=_environment(), start_new_session=True)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            _kill(process)
            await process.aclose()


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.kill()
        else:  # `kill` would first reap a process that has ended, and asyncio warns of one that it cannot reap itself
            os.kill(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Ours without the settings (the key is nothing for it), and with the places that modules come from here."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("SORA_")}
    return kept | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}  # noqa: PTH109 - as text


def _read(answer: bytes, name: str) -> Sheet:
    """The sheet. Raises Unviewable where there is none, and NotConfigured."""
    head, _, picture = answer.partition(b"\n")
    try:
        reply = json.loads(head)
        reason = reply.get("reason")
        if reason == "not_installed":
            raise not_installed()
        if reason in get_args(Reason):
            raise Unviewable(reason, name)
        return Sheet(picture, Probe(**reply["probe"]), reply["frames"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _ended(name) from None


def _ended(name: str) -> Unviewable:
    logger.warning("the process that looks at a video ended without an answer")
    return Unviewable("ended", name)
