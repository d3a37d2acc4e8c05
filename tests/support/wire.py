"""A server process as a host runs it: lines of JSON over stdin and stdout, raw or as calls."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from bench import COMMAND

_PARAMS = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
MAX_LINE_BYTES = 10_000_000

HELLO: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": _PARAMS,
}


class Wire:
    """Raw lines to and from a server. Made by `wire`."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = BufferedByteReceiveStream(process.stdout)

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one message of JSON-RPC."""
        await self._stdin.send(json.dumps({"jsonrpc": "2.0"} | dict(message)).encode() + b"\n")

    async def read(self) -> dict[str, Any]:
        """Read the next line."""
        with anyio.fail_after(30):
            return dict(json.loads(await self._stdout.receive_until(b"\n", MAX_LINE_BYTES)))

    async def ask(self, line: bytes) -> dict[str, Any]:
        """Send a raw line, and read the next one."""
        await self._stdin.send(line + b"\n")
        return await self.read()

    async def hang_up(self) -> None:
        """Close its input and wait for its exit."""
        await self._stdin.aclose()
        await self._process.wait()


class Host:
    """A host's side of a server. Made by `host`; the server's answers are stored in `answers`."""

    def __init__(self, process: Process) -> None:
        self.answers: dict[int, dict[str, Any]] = {}
        self.answered = anyio.Event()
        self._process = process
        self._answer_events: dict[int, anyio.Event] = {}

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    async def start(self) -> None:
        """Shake hands."""
        await self._send(id=0, method="initialize", params=_PARAMS)
        await self._answer_events[0].wait()
        await self._send(method="notifications/initialized")

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> int:
        """Send a tool call; returns the id of its answer."""
        number = len(self._answer_events)
        await self._send(id=number, method="tools/call", params={"name": tool, "arguments": arguments})
        return number

    async def use(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and wait for its structured result."""
        return await self.answer(await self.call(tool, arguments))

    async def answer(self, number: int) -> dict[str, Any]:
        """Wait for the structured result of a call, which is its second text."""
        await self._answer_events[number].wait()
        return dict(json.loads(self.answers[number]["result"]["content"][1]["text"]))

    async def ping(self) -> None:
        """Wait for the answer to a ping."""
        number = len(self._answer_events)
        await self._send(id=number, method="ping")
        await self._answer_events[number].wait()

    async def kill(self) -> None:
        """Send SIGKILL."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _send(self, **message: Any) -> None:
        if "id" in message:
            self._answer_events[message["id"]] = anyio.Event()
        assert self._process.stdin is not None
        await self._process.stdin.send(json.dumps({"jsonrpc": "2.0"} | message).encode() + b"\n")

    async def listen(self) -> None:
        """Store the server's answers until it exits."""
        assert self._process.stdout is not None
        stdout = BufferedByteReceiveStream(self._process.stdout)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            while True:
                answer = json.loads(await stdout.receive_until(b"\n", MAX_LINE_BYTES))
                if "result" in answer and answer["id"] in self._answer_events:
                    self.answers[answer["id"]] = answer
                    self._answer_events[answer["id"]].set()
                    if answer["id"]:
                        self.answered.set()


@asynccontextmanager
async def wire(environment: Mapping[str, str]) -> AsyncIterator[Wire]:
    """Start a server process; terminated on exit if it is still running."""
    async with await anyio.open_process(COMMAND, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield Wire(process)
        finally:
            if process.returncode is None:
                process.terminate()


@asynccontextmanager
async def host(environment: Mapping[str, str]) -> AsyncIterator[Host]:
    """Start a server process; killed on exit if it is still running."""
    process = await anyio.open_process(COMMAND, env=environment, stderr=subprocess.DEVNULL)
    async with process, anyio.create_task_group() as listening:
        server = Host(process)
        listening.start_soon(server.listen)
        try:
            yield server
        finally:
            with anyio.CancelScope(shield=True):
                await server.kill()
