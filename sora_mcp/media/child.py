"""A process of its own for what may take for ever, take all memory, or crash: started, asked once, and ended.

The first half is for the server, the second for the process, which ends with its parent, its time and its memory.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from copy import copy
from typing import Any

import anyio
from anyio.abc import Process

GRACE_S = 2
"""Seconds beyond its time after which the system ends such a process, should its parent not have done so."""


AT_ONCE = 2
"""Processes of one kind that run at once."""


class Turns:
    """Whose process runs when: AT_ONCE of all, and where several people share a server as many of each person wait, so
    that nobody waits behind all that somebody else asked for."""

    def __init__(self) -> None:
        self._own = self._all = anyio.Semaphore(AT_ONCE)

    def for_one(self) -> Turns:
        """The turns of one of several people."""
        theirs = copy(self)
        theirs._own = anyio.Semaphore(AT_ONCE)  # noqa: SLF001 - a copy of this one
        return theirs

    @asynccontextmanager
    async def take(self, within_s: float = math.inf) -> AsyncIterator[None]:
        """Wait for a turn, and have it until this ends. Raises TimeoutError."""
        async with AsyncExitStack() as taken:
            with anyio.fail_after(within_s):
                for each in dict.fromkeys((self._own, self._all)):
                    await taken.enter_async_context(each)
            yield


async def answer_of(module: str, asked: dict[str, Any], content: bytes, *, most_bytes: int) -> bytes:
    """What `python -m module` says to a question; empty where it could not be started or said more than `most_bytes`.

    It is gone when this returns, or is cancelled.
    """
    answer = bytearray()
    with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream):
        async with _process(module) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(json.dumps(asked | {"bytes": len(content)}).encode() + b"\n" + content)
            async for chunk in process.stdout:  # stdin is left open: its end would end the process
                answer += chunk
                if len(answer) > most_bytes:
                    return b""
    return bytes(answer)


@asynccontextmanager
async def _process(module: str) -> AsyncIterator[Process]:
    """A process that is killed on leaving. In a session of its own: Ctrl-C at a shell is for us, who then end it."""
    command = [sys.executable, "-P", "-m", module]
    with anyio.CancelScope(shield=True):  # one that is given up while it is started would be left behind
        process = await anyio.open_process(
            command, stderr=subprocess.DEVNULL, env=_environment(), start_new_session=True
        )
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


def question() -> tuple[dict[str, Any], bytes]:
    """What the parent asks. From here on this process ends with it or after `seconds`, and gets `memory_bytes`."""
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    asked = json.loads(line)
    content = sys.stdin.buffer.read(asked["bytes"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit(asked["seconds"], asked["memory_bytes"])
    return asked, content


def answer(head: dict[str, Any], content: bytes) -> None:
    """Answer the parent and end."""
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + content)
    sys.stdout.buffer.flush()
    os._exit(0)  # the thread may still be blocked in a read of stdin


def _end_with_parent() -> None:
    """End when nobody holds the other end of stdin any more: the parent is gone, however it went."""
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    os._exit(1)


def _limit(seconds: float, memory_bytes: int) -> None:
    """Have the system end this process where it goes on too long, and refuse it more memory. Not on Windows."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - there is none on Windows

    signal.alarm(math.ceil(seconds + GRACE_S))  # SIGALRM, which nobody handles, ends a process in the midst of anything
    with suppress(ValueError, OSError):  # macOS knows the limit and may refuse to set it
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
