"""Worker processes for code that may never return, use up all memory, or crash: started, asked once, and killed.

The first half runs in the server, the second in the worker, which exits when its parent does, when its time is up, or
when it runs out of memory.
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
"""Seconds past its deadline after which the system kills a worker that its parent has not killed."""

MAX_CONCURRENT = 2
"""Workers of one kind that run at the same time."""


class Slots:
    """Limits workers to MAX_CONCURRENT in total. On a shared server each owner also has at most MAX_CONCURRENT in the
    queue for those, so that no owner waits behind everything another owner asked for."""

    def __init__(self) -> None:
        self._own = self._all = anyio.Semaphore(MAX_CONCURRENT)

    def for_owner(self) -> Slots:
        """The same slots, queued for by one of several owners."""
        slots = copy(self)
        slots._own = anyio.Semaphore(MAX_CONCURRENT)  # noqa: SLF001 - a copy of this one
        return slots

    @asynccontextmanager
    async def acquire(self, timeout_s: float = math.inf) -> AsyncIterator[None]:
        """Wait for a slot, and occupy it until the context exits. Raises TimeoutError."""
        async with AsyncExitStack() as stack:
            with anyio.fail_after(timeout_s):
                for semaphore in dict.fromkeys((self._own, self._all)):
                    await stack.enter_async_context(semaphore)
            yield


async def run_worker(module: str, request: dict[str, Any], content: bytes, *, max_bytes: int) -> bytes:
    """Run `python -m module` for one request and return its answer; empty if the process could not be started, or
    answered with more than `max_bytes`.

    The process is dead by the time this returns or is cancelled.
    """
    answer = bytearray()
    with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream):
        async with _spawn(module) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(json.dumps(request | {"bytes": len(content)}).encode() + b"\n" + content)
            async for chunk in process.stdout:  # stdin is left open: its end would end the process
                answer += chunk
                if len(answer) > max_bytes:
                    return b""
    return bytes(answer)


@asynccontextmanager
async def _spawn(module: str) -> AsyncIterator[Process]:
    """Start a process that is killed on exit. It has its own session: Ctrl-C in a shell goes to us, and we kill it."""
    command = [sys.executable, "-P", "-m", module]
    with anyio.CancelScope(shield=True):  # a process cancelled while it starts would be left behind
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
        else:  # `kill` would first reap an exited process, and asyncio warns if it cannot reap it itself
            os.kill(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Our environment without the settings (the worker must not see the key), and with our module search path."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("SORA_")}
    return environment | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}  # noqa: PTH109 - as text


def read_request() -> tuple[dict[str, Any], bytes]:
    """Read the parent's request. From here on this process exits with its parent or after `seconds`, and may use
    `memory_bytes`."""
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    request = json.loads(line)
    content = sys.stdin.buffer.read(request["bytes"])
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _limit_resources(request["seconds"], request["memory_bytes"])
    return request, content


def send_answer(head: dict[str, Any], content: bytes) -> None:
    """Answer the parent and exit."""
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + content)
    sys.stdout.buffer.flush()
    os._exit(0)  # the thread may still be blocked in a read of stdin


def _exit_with_parent() -> None:
    """Exit once stdin is closed at the other end: the parent has died, for whatever reason."""
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    os._exit(1)


def _limit_resources(seconds: float, memory_bytes: int) -> None:
    """Have the system kill this process if it runs too long, and refuse it more memory. Not on Windows."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - does not exist on Windows

    signal.alarm(
        math.ceil(seconds + GRACE_S)
    )  # SIGALRM has no handler here, so it kills the process whatever it is doing
    with suppress(ValueError, OSError):  # macOS knows the limit and may refuse to set it
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
