"""A process that has imported our whole package and forks for each command, which makes commands start much faster.

Nothing is opened in it. A command gets its arguments, environment, folder and standard streams as from a shell, and
runs and exits as `python -m sora_mcp` does. A command that would start differently from this process is started for
real: at a terminal, in another encoding, with other settings of Python itself. So is every command outside of Linux. A
test of the process itself uses `bench.COMMAND`.
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
"""Prefixes of variables that are not read before a command runs. Proxy variables may differ, too."""


@cache
def warm_command() -> tuple[str, ...]:
    """The command line that starts our commands. The process behind it starts at first use, and exits with this one."""
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

    def matches_this_process(self) -> bool:
        """Whether Python would start in the same way as in this process, and find the same modules."""
        package = Path(self.folder, "sora_mcp")
        if package.exists() and not package.samefile(sora_mcp.__path__[0]):
            return False
        differing = {name for name, _ in self.environ.items() ^ os.environ.items()}
        return not any(map(os.isatty, self.streams)) and all(
            name.upper().startswith(MAY_DIFFER) or name.lower().endswith("_proxy") for name in differing
        )

    def adopt(self) -> None:
        """Take over the streams, session, folder, environment and arguments."""
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
    """Reopen the descriptor of a stream, as Python does at its start."""
    buffering = 0 if isinstance(stream.buffer, FileIO) else -1
    file: Any = open(stream.fileno(), stream.buffer.mode, buffering, closefd=False)  # noqa: SIM115
    options = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    return TextIOWrapper(file, stream.encoding, stream.errors, "\n", **options)


def fork_on_request(listener: socket.socket) -> Start | None:
    """Fork for each connection. Returns its Start in the child's child, and None in this process when stdin ends."""
    readable: list[Any] = [listener, sys.stdin]
    while listener in select.select(readable, [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return supervise(connection)
        connection.close()
        with suppress(ChildProcessError):  # reap exited ones
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    return None


def supervise(connection: socket.socket) -> Start:
    """Fork for a connection, and send it the process id and exit code; kill the process if the client disconnects."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile() as lines:
        start = Start(streams=streams, **json.loads(lines.readline()))
    if not start.matches_this_process():
        send_number(connection, 0)
        os._exit(0)
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        connection.close()
        return start
    for stream in streams:
        os.close(stream)
    send_number(connection, process)
    events: list[Any] = [process_exit := os.pidfd_open(process), connection]
    if process_exit not in select.select(events, [], [])[0]:
        os.kill(process, signal.SIGKILL)
    send_number(connection, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    os._exit(0)


def send_number(connection: socket.socket, number: int) -> None:
    with suppress(OSError):  # the client has disconnected
        connection.sendall(f"{number}\n".encode())


def import_all() -> None:
    """Import our whole package and its dependencies."""
    for module in pkgutil.walk_packages(sora_mcp.__path__, "sora_mcp."):
        if module.name != "sora_mcp.__main__":
            import_module(module.name)


if __name__ == "__main__":
    import_all()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (start := fork_on_request(socket.socket(fileno=int(sys.argv[1])))) is not None:
        start.adopt()
        runpy.run_module("sora_mcp", run_name="__main__", alter_sys=True)
