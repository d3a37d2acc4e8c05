"""A client that never reads what it is told: the process still ends when it is told to, with everything recorded."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from bench import ACCEPTED, COMMAND, environment
from fault_gateway import CREATE, FaultGateway, Hold, fault_gateway

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="pipes of this kind, and signals"),
]

ABOUT = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
GONE_WITHIN = 10.0


class Deaf:
    """A client that has filled the server's pipe. Made by `deaf`."""

    def __init__(self, process: Process, unread: int) -> None:
        self.process = process
        self._unread = unread
        self._number = 0

    async def ask(self, method: str, **params: Any) -> None:
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        assert self.process.stdin is not None
        await self.process.stdin.send(json.dumps(message).encode() + b"\n")

    async def fill(self) -> None:
        """Ask so much that the pipe is full of what nobody reads."""
        import fcntl  # noqa: PLC0415 - not on every platform
        import termios  # noqa: PLC0415

        for _ in range(40):
            await self.ask("tools/list")
        waiting = b"\0" * 4
        while int.from_bytes(waiting, sys.byteorder) < 60_000:
            await anyio.sleep(0.02)  # another process fills it
            waiting = fcntl.ioctl(self._unread, termios.FIONREAD, b"\0" * 4)

    async def end(self, how: str) -> None:
        if how == "end of input":
            assert self.process.stdin is not None
            await self.process.stdin.aclose()
        else:
            self.process.send_signal(signal.Signals[how])


@asynccontextmanager
async def deaf(environ: dict[str, str]) -> AsyncIterator[Deaf]:
    unread, told = os.pipe()
    try:
        process = await anyio.open_process(COMMAND, env=environ, stdout=told, stderr=subprocess.DEVNULL)
        os.close(told)
        async with process:
            try:
                client = Deaf(process, unread)
                await client.ask("initialize", **ABOUT)
                yield client
            finally:
                if process.returncode is None:
                    process.kill()
    finally:
        os.close(unread)


async def test_a_server_whose_client_reads_nothing_ends_when_it_is_told_to(tmp_path: Path) -> None:
    async def end(how: str) -> None:
        async with deaf(environment(tmp_path / how)) as client:
            await client.fill()
            await client.end(how)
            with anyio.fail_after(GONE_WITHIN):
                assert await client.process.wait() == 0

    await for_each_end(end)


async def test_a_post_that_is_out_is_waited_for_first_and_recorded(tmp_path: Path) -> None:
    async def end(how: str) -> None:
        hold = Hold()
        async with fault_gateway() as gateway, deaf(environment(tmp_path / how, gateway)) as client:
            gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
            await client.ask("tools/call", name="create_video", arguments={"prompt": "fly man"})
            await hold.reached.wait()
            await client.fill()
            await client.end(how)
            with anyio.move_on_after(4) as waited:
                await client.process.wait()
            assert waited.cancelled_caught
            hold.release.set()
            with anyio.fail_after(GONE_WITHIN):
                assert await client.process.wait() == 0
        with closing(sqlite3.connect(tmp_path / how / "home" / "ledger.sqlite3")) as ledger:
            assert ledger.execute("SELECT state, task_id FROM videos").fetchall() == [("submitted", "task_new")]

    await for_each_end(end)


async def for_each_end(end: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """All at once: they do nothing but wait."""
    with anyio.fail_after(60):
        async with anyio.create_task_group() as servers:
            for how in ("end of input", "SIGTERM", "SIGINT"):
                servers.start_soon(end, how)


async def test_a_client_that_has_closed_its_end_ends_the_server(gateway: FaultGateway, tmp_path: Path) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
    unread, told = os.pipe()
    with anyio.fail_after(60):
        process = await anyio.open_process(
            COMMAND, env=environment(tmp_path, gateway), stdout=told, stderr=subprocess.DEVNULL
        )
        os.close(told)
        async with process:
            client = Deaf(process, unread)
            await client.ask("initialize", **ABOUT)
            await client.ask("tools/call", name="create_video", arguments={"prompt": "fly man"})
            await hold.reached.wait()
            os.close(unread)
            await client.ask("tools/list")
            hold.release.set()
            assert await process.wait() == 0
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as ledger:
        assert ledger.execute("SELECT state, task_id FROM videos").fetchall() == [("submitted", "task_new")]


async def test_whoever_reads_late_is_told_everything(environment: dict[str, str]) -> None:
    """End of input is no reason to drop what the client goes on reading."""
    with anyio.fail_after(60):
        async with await anyio.open_process(COMMAND, env=environment, stderr=subprocess.DEVNULL) as process:
            client = Deaf(process, -1)
            await client.ask("initialize", **ABOUT)
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
            for _ in range(20):
                await client.ask("tools/list")
            read = b""
            while read.count(b"\n") < 21:
                read += await process.stdout.receive()
            await process.stdin.aclose()
            assert await process.wait() == 0
    assert {json.loads(line)["id"] for line in read.splitlines()} == set(range(1, 22))
