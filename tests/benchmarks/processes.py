"""Processes that are measured: started here, spoken to by line, ended by their id, with what they used."""

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

HERE = Path(__file__).parent
SORA = (sys.executable, "-m", "sora_mcp")
BARE = (sys.executable, str(HERE / "bare_server.py"))
GATEWAY = (sys.executable, str(HERE / "gateway.py"))
LOAD = (sys.executable, str(HERE / "load.py"))
Env = Mapping[str, str]
_NOTHING: Env = MappingProxyType({})
_LEFT_OUT = ("SORA_", "PYTHONDONTWRITEBYTECODE")
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
    """A process with a pipe on stdin and stdout. On leaving it is killed: how it ends is not what is measured."""

    def __init__(self, command: tuple[str, ...], env: Env = _NOTHING, *, stderr: int | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
        self._began = time.perf_counter()
        self._answered = self._began
        self._process = subprocess.Popen(  # noqa: S603 - our own commands
            command, env=clean | dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        )
        self._number = 0
        self._used: Usage | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def memory_bytes(self) -> int:
        """What it holds in memory now. Linux only."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        """How many it has open now. Linux only."""
        return sum(1 for _ in Path(f"/proc/{self._process.pid}/fd").iterdir())

    def address(self) -> str:
        """The last word of the first line on stderr (see `serving`): where a server can be reached."""
        assert self._process.stderr is not None
        return self._process.stderr.readline().decode().split()[-1]

    def drain(self, log: Path) -> None:
        """Write what it says on stderr from now on to a file: nobody reads it, and a full pipe would stop it."""

        def copy() -> None:
            with os.fdopen(descriptor, "rb", buffering=0), log.open("ab", buffering=0) as file:
                while said := os.read(descriptor, 65536):
                    file.write(said)

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
            self._answered = time.perf_counter()
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

    def finish(self, given: bytes) -> bytes:
        """Write `given` and end of input; everything it writes until it closes stdout."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(given)
        self._process.stdin.close()
        return self._process.stdout.read()

    def end(self) -> Usage:
        """Kill it, if it still runs; what it used."""
        if self._used is None:
            self._process.kill()
        return self.wait()

    def wait(self) -> Usage:
        """What it used, once it has ended."""
        if self._used is None:
            self._used = self._reap()
        return self._used

    def _reap(self) -> Usage:
        _, status, used = os.wait4(self._process.pid, 0)
        ended = self._answered if self._answered > self._began else time.perf_counter()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Usage(used.ru_utime + used.ru_stime, ended - self._began, peak, self._process.returncode)


def run(command: tuple[str, ...], env: Env = _NOTHING, given: str = "") -> tuple[Usage, str]:
    """Run a command to its end: what it used, and what it wrote. Raises RuntimeError where it fails."""
    process = Process(command, env, stderr=subprocess.STDOUT)
    written = process.finish(given.encode()).decode()
    used = process.wait()
    if used.status:
        raise RuntimeError(f"{' '.join(command)} ended with {used.status}: {written}")
    return used, written


def serving(command: tuple[str, ...], env: Env = _NOTHING) -> Process:
    """A server that says its address on stderr."""
    return Process(command, env, stderr=subprocess.PIPE)
