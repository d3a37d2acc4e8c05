"""A server process as a host runs it: lines of JSON over its standard input and output, raw or as calls."""

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
        """The next line."""
        with anyio.fail_after(30):
            return dict(json.loads(await self._stdout.receive_until(b"\n", MAX_LINE_BYTES)))

    async def ask(self, line: bytes) -> dict[str, Any]:
        """Send a line as it is; the next one that comes back."""
        await self._stdin.send(line + b"\n")
        return await self.read()

    async def hang_up(self) -> None:
        """End its input and wait for its end."""
        await self._stdin.aclose()
        await self._process.wait()


class Host:
    """What a host does with a server. Made by `host`; whatever the server says is kept in `answers`."""

    def __init__(self, process: Process) -> None:
        self.answers: dict[int, dict[str, Any]] = {}
        self.answered = anyio.Event()
        self._process = process
        self._arrived: dict[int, anyio.Event] = {}

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    async def start(self) -> None:
        """Shake hands."""
        await self._send(id=0, method="initialize", params=_PARAMS)
        await self._arrived[0].wait()
        await self._send(method="notifications/initialized")

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> int:
        """Ask for a tool call; the id under which its answer will stand."""
        number = len(self._arrived)
        await self._send(id=number, method="tools/call", params={"name": tool, "arguments": arguments})
        return number

    async def use(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and wait for its structured result."""
        return await self.answer(await self.call(tool, arguments))

    async def answer(self, number: int) -> dict[str, Any]:
        """Wait for the structured result of a call, which stands in its second text."""
        await self._arrived[number].wait()
        return dict(json.loads(self.answers[number]["result"]["content"][1]["text"]))

    async def ping(self) -> None:
        """Wait for the answer to a ping."""
        number = len(self._arrived)
        await self._send(id=number, method="ping")
        await self._arrived[number].wait()

    async def kill(self) -> None:
        """SIGKILL."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _send(self, **message: Any) -> None:
        if "id" in message:
            self._arrived[message["id"]] = anyio.Event()
        assert self._process.stdin is not None
        await self._process.stdin.send(json.dumps({"jsonrpc": "2.0"} | message).encode() + b"\n")

    async def listen(self) -> None:
        """Keep what the server says until it is gone."""
        assert self._process.stdout is not None
        stdout = BufferedByteReceiveStream(self._process.stdout)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            while True:
                answer = json.loads(await stdout.receive_until(b"\n", MAX_LINE_BYTES))
                if "result" in answer and answer["id"] in self._arrived:
                    self.answers[answer["id"]] = answer
                    self._arrived[answer["id"]].set()
                    if answer["id"]:
                        self.answered.set()


@asynccontextmanager
async def wire(environment: Mapping[str, str]) -> AsyncIterator[Wire]:
    """A server process of its own; told to end on leaving, if it still runs."""
    async with await anyio.open_process(COMMAND, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield Wire(process)
        finally:
            if process.returncode is None:
                process.terminate()


@asynccontextmanager
async def host(environment: Mapping[str, str]) -> AsyncIterator[Host]:
    """A server process of its own; killed on leaving, if it still runs."""
    process = await anyio.open_process(COMMAND, env=environment, stderr=subprocess.DEVNULL)
    async with process, anyio.create_task_group() as listening:
        opened = Host(process)
        listening.start_soon(opened.listen)
        try:
            yield opened
        finally:
            with anyio.CancelScope(shield=True):
                await opened.kill()
