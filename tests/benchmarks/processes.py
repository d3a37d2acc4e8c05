"""Processes that are measured: started, talked to line by line, ended by their id, with their usage of resources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

FOLDER = Path(__file__).parent
SORA = (sys.executable, "-m", "sora_mcp")
BARE = (sys.executable, str(FOLDER / "bare_server.py"))
GATEWAY = (sys.executable, str(FOLDER / "gateway.py"))
LOAD = (sys.executable, str(FOLDER / "load.py"))
Env = Mapping[str, str]
_NOTHING: Env = MappingProxyType({})
_REMOVED_VARIABLES = ("SORA_", "PYTHONDONTWRITEBYTECODE")
"""Variables that no process gets: the packages beside ours were compiled when they were installed, so that ours is to
be compiled once, too."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used from its start to its end. `wall_s` ends with the last answer, not with the process."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    status: int


class Process:
    """A process with a pipe on stdin and stdout. It is killed on exit: shutdown is not measured."""

    def __init__(self, command: tuple[str, ...], env: Env = _NOTHING, *, stderr: int | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_REMOVED_VARIABLES)}
        self._started_at = time.perf_counter()
        self._answered_at = self._started_at
        self._process = subprocess.Popen(  # noqa: S603 - our own commands
            command, env=clean | dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        )
        self._number = 0
        self._usage: Usage | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def memory_bytes(self) -> int:
        """Its resident memory now. Linux only."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        """The number of its open descriptors now. Linux only."""
        return sum(1 for _ in Path(f"/proc/{self._process.pid}/fd").iterdir())

    def address(self) -> str:
        """The last word of the first line on stderr (see `serving`): where a server can be reached."""
        assert self._process.stderr is not None
        return self._process.stderr.readline().decode().split()[-1]

    def drain(self, log: Path) -> None:
        """Write what it says on stderr from now on to a file: nobody reads it, and a full pipe would stop it."""

        def copy() -> None:
            with os.fdopen(descriptor, "rb", buffering=0), log.open("ab", buffering=0) as file:
                while chunk := os.read(descriptor, 65536):
                    file.write(chunk)

        assert self._process.stderr is not None
        descriptor = os.dup(self._process.stderr.fileno())
        threading.Thread(target=copy, daemon=True).start()

    def initialize(self) -> None:
        """MCP's handshake."""
        info = {"name": "benchmark", "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info})
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One JSON-RPC request and its result; notifications on the way are skipped."""
        assert self._process.stdout is not None
        self._number += 1
        self._write({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        for line in self._process.stdout:
            self._answered_at = time.perf_counter()
            answer = json.loads(line)
            if answer.get("id") == self._number:
                result: dict[str, Any] = answer["result"]
                if result.get("isError"):
                    raise RuntimeError(f"{method}: {result['content']}")
                return result
        raise RuntimeError(f"{method}: the server ended")

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """tools/call."""
        return self.ask("tools/call", {"name": tool, "arguments": arguments})

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def finish(self, stdin: bytes) -> bytes:
        """Write `stdin` and end of input; everything it writes until it closes stdout."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(stdin)
        self._process.stdin.close()
        return self._process.stdout.read()

    def end(self) -> Usage:
        """Kill it if it is still running, and return its usage."""
        if self._usage is None:
            self._process.kill()
        return self.wait()

    def wait(self) -> Usage:
        """Wait for its exit, and return its usage."""
        if self._usage is None:
            self._usage = self._reap()
        return self._usage

    def _reap(self) -> Usage:
        _, status, usage = os.wait4(self._process.pid, 0)
        ended_at = self._answered_at if self._answered_at > self._started_at else time.perf_counter()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Usage(usage.ru_utime + usage.ru_stime, ended_at - self._started_at, peak, self._process.returncode)


def run(command: tuple[str, ...], env: Env = _NOTHING, stdin: str = "") -> tuple[Usage, str]:
    """Run a command to its end: what it used, and what it wrote. Raises RuntimeError where it fails."""
    process = Process(command, env, stderr=subprocess.STDOUT)
    output = process.finish(stdin.encode()).decode()
    usage = process.wait()
    if usage.status:
        raise RuntimeError(f"{' '.join(command)} ended with {usage.status}: {output}")
    return usage, output


def serving(command: tuple[str, ...], env: Env = _NOTHING) -> Process:
    """Start a server that prints its address on stderr."""
    return Process(command, env, stderr=subprocess.PIPE)
