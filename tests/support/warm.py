"""A process that has imported all of ours and forks for each command, which so starts in a fraction of the time.

Nothing is opened in it. A command gets its arguments, environment, folder and standard streams as from a shell, and
runs and ends as `python -m sora_mcp` does. One that would start otherwise than this process did is started for real:
at a terminal, in another encoding, with other settings of Python's own. So is each outside of Linux. A test in which
the process itself is the point takes `bench.COMMAND`.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import Any

import sora_mcp

MAY_DIFFER = ("COLUMNS", "HOME", "LINES", "NO_COLOR", "PATH", "PYTEST_", "SORA_", "TERM", "TZ", "XDG_")
"""How the variables begin that nothing reads before a command runs. Those of proxies are others."""


@cache
def warm_command() -> tuple[str, ...]:
    """What starts a command of ours. The process behind it starts at the first use, and ends with this one."""
    if sys.platform != "linux":
        return sys.executable, "-m", "sora_mcp"
    folder = tempfile.TemporaryDirectory(prefix="sora-warm-")
    path = f"{folder.name}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(100)
        number = listener.fileno()
        command = [sys.executable, __file__, str(number)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[number])  # noqa: S603

    def end() -> None:
        process.communicate(timeout=60)
        folder.cleanup()

    atexit.register(end)
    return sys.executable, "-I", "-S", str(Path(__file__).with_name("warm_start.py")), path


# --- in that process ------------------------------------------------------------------------------


@dataclass
class Start:
    """How `warm_start` was started."""

    arguments: list[str]
    environ: dict[str, str]
    folder: str
    umask: int
    leads_session: bool
    streams: list[int]

    def is_alike(self) -> bool:
        """Python started in the same way in this process, and would find the same modules where it is to run."""
        ours = Path(self.folder, "sora_mcp")
        if ours.exists() and not ours.samefile(sora_mcp.__path__[0]):
            return False
        differing = {name for name, _ in self.environ.items() ^ os.environ.items()}
        return not any(map(os.isatty, self.streams)) and all(
            name.upper().startswith(MAY_DIFFER) or name.lower().endswith("_proxy") for name in differing
        )

    def take_on(self) -> None:
        """Be what that was."""
        for number, (stream, name) in enumerate(zip(self.streams, ("stdin", "stdout", "stderr"), strict=True)):
            os.dup2(stream, number)
            os.close(stream)
            setattr(sys, name, reopened(getattr(sys, name)))
        if self.leads_session:
            os.setsid()
        os.umask(self.umask)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environ)
        time.tzset()
        sys.argv = [sys.argv[0], *self.arguments]
        sys.path[0] = self.folder


def reopened(stream: Any) -> TextIOWrapper:
    """The same for what the number of its file stands for now, as Python opens it when it starts."""
    buffering = 0 if isinstance(stream.buffer, FileIO) else -1
    file: Any = open(stream.fileno(), stream.buffer.mode, buffering, closefd=False)  # noqa: SIM115
    through = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    return TextIOWrapper(file, stream.encoding, stream.errors, "\n", **through)


def forked(listener: socket.socket) -> Start | None:
    """Fork for each that connects. Returns in a fork of that: how it is to start; and here when stdin ends."""
    heard: list[Any] = [listener, sys.stdin]
    while listener in select.select(heard, [], [])[0]:
        asking, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return kept(asking)
        asking.close()
        with suppress(ChildProcessError):  # those that have ended
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    return None


def kept(asking: socket.socket) -> Start:
    """Fork for who asks, and tell them the process and how it ended; it is killed when they are gone."""
    _, streams, _, _ = socket.recv_fds(asking, 1, 3)
    with asking.makefile() as lines:
        start = Start(streams=streams, **json.loads(lines.readline()))
    if not start.is_alike():
        tell(asking, 0)
        os._exit(0)
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asking.close()
        return start
    for stream in streams:
        os.close(stream)
    tell(asking, process)
    until: list[Any] = [ended := os.pidfd_open(process), asking]
    if ended not in select.select(until, [], [])[0]:
        os.kill(process, signal.SIGKILL)
    tell(asking, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    os._exit(0)


def tell(asking: socket.socket, number: int) -> None:
    with suppress(OSError):  # they are gone
        asking.sendall(f"{number}\n".encode())


def import_all() -> None:
    """All of ours, and with that what it needs."""
    for module in pkgutil.walk_packages(sora_mcp.__path__, "sora_mcp."):
        if module.name != "sora_mcp.__main__":
            import_module(module.name)


if __name__ == "__main__":
    import_all()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (start := forked(socket.socket(fileno=int(sys.argv[1])))) is not None:
        start.take_on()
        runpy.run_module("sora_mcp", run_name="__main__", alter_sys=True)
