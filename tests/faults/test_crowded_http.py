"""HTTP on a machine with few descriptors: idle connections, half requests and clients that stay are bounded."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import Process
from bench import ACCEPTED, ACCEPTED_NEXT, COMMAND, environment, over_http
from fault_gateway import CREATE, FaultGateway, Hold
from mcp import Client

pytestmark = pytest.mark.anyio

FEW = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *COMMAND]
posix = pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind")

HELLO = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
).encode()


def head(address: str, *headers: str, length: int = len(HELLO)) -> bytes:
    parts = urlsplit(address)
    lines = [
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        f"Content-Length: {length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def idle(address: str, times: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that have said so much, and nothing more."""
    parts = urlsplit(address)
    with ExitStack() as stack:
        opened = []
        for _ in range(times):
            connection = stack.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=10))
            with suppress(OSError):  # it may be closed already
                connection.sendall(said)
            opened.append(connection)
        yield opened


async def create(client: Client, told: list[dict[str, Any]], prompt: str = "fly man") -> None:
    told.append((await client.call_tool("create_video", {"prompt": prompt})).structured_content)


async def end(process: Process) -> list[str]:
    """End a server; the lines that it wrote to stderr."""
    process.terminate()
    assert process.stderr is not None
    written = b"".join([chunk async for chunk in process.stderr])
    await process.wait()
    return written.decode().splitlines()


@posix
@pytest.mark.parametrize("said", [b"", b"POST /mcp HTTP/1.1\r\nHost: 127"], ids=["silent", "half a head"])
async def test_150_idle_connections_lose_no_paid_id_and_lock_nobody_out(
    gateway: FaultGateway, tmp_path: Path, said: bytes
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold), ACCEPTED_NEXT)
    told: list[dict[str, Any]] = []
    with anyio.fail_after(60):
        async with over_http(environment(tmp_path, gateway), FEW) as (address, process):
            async with Client(address) as client, anyio.create_task_group() as calls:
                calls.start_soon(create, client, told)
                await hold.reached.wait()
                with idle(address, 150, said):
                    async with Client(address) as another:
                        await another.list_tools()
                        hold.release.set()
                        await create(another, told, "another")
            assert [each["outcome"] for each in told] == ["accepted", "accepted"]
            assert len(await end(process)) <= 3
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as ledger:
        assert dict(ledger.execute("SELECT task_id, count(*) FROM videos GROUP BY 1")) == {"task_new": 1, "task_2": 1}


@posix
async def test_a_crowd_that_has_used_up_every_descriptor_is_told_of_in_one_line(
    environment: dict[str, str],
) -> None:
    """Whatever used them up: the limit is lowered below what the server counted on."""
    import resource  # noqa: PLC0415 - not on every platform

    with anyio.fail_after(60):
        async with over_http(environment, COMMAND) as (address, process):
            limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (1, limits[1]))
            with idle(address, 100):
                await anyio.sleep(2.5)  # a server waits for a second before it takes connections again
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
            async with Client(address) as client:
                await client.list_tools()
            lines = await end(process)
    assert len(lines) <= 2
    assert sum("connection" in line for line in lines) == 1


async def test_a_request_that_takes_too_long_to_arrive_is_cut(environment: dict[str, str]) -> None:
    """Nothing, half a head, a head without its end, half a body, no body; and a head that drips is cut in the end."""
    with anyio.fail_after(60):
        async with over_http(environment, COMMAND) as (address, _), Client(address, mode="legacy") as steady:
            await steady.list_tools()
            starts = [b"", b"POST /mcp HTT", b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n", head(address) + HELLO[:20]]
            with ExitStack() as stack:
                opened = [stack.enter_context(idle(address, 1, said))[0] for said in [*starts, head(address)]]
                with idle(address, 1, b"POST /mcp HTTP/1.1\r\nX-Long: ") as [dripping]:
                    answers = [drip(dripping), *(rest_of(connection) for connection in opened)]
            assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
            await steady.list_tools()


def drip(connection: socket.socket) -> bytes:
    """Send a byte now and then for as long as the server takes it; what it said in the end."""
    connection.settimeout(0.5)
    for _ in range(60):
        try:
            connection.sendall(b"x")
            return rest_of(connection)
        except TimeoutError:
            pass
        except OSError:
            return b""
    raise AssertionError("it was never cut")


def rest_of(connection: socket.socket) -> bytes:
    """What comes before the other side closes the connection."""
    with suppress(ConnectionError):
        return b"".join(iter(partial(connection.recv, 4096), b""))
    return b""


@posix
@pytest.mark.parametrize("request_line", ["POST /mcp", "PUT /images/x", "GET /healthz"])
async def test_bodies_of_strangers_that_never_come_lock_nobody_out(tmp_path: Path, request_line: str) -> None:
    """Whoever may not send a body is answered before it comes, and their place can be taken."""
    begun = f"{request_line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx".encode()
    with anyio.fail_after(60):
        async with over_http(environment(tmp_path, AUTH="tokens"), FEW) as (address, _):
            with ExitStack() as stack:
                for _ in range(40):
                    [connection] = stack.enter_context(idle(address, 1, begun))
                    connection.settimeout(0.1)
                    with suppress(OSError):
                        connection.recv(1)  # its beginning has arrived
                parts = urlsplit(address)
                with socket.create_connection((parts.hostname, parts.port), timeout=5) as another:
                    another.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert another.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
async def test_clients_that_disconnect_while_they_send_leave_nothing_in_the_log(
    environment: dict[str, str], version: str
) -> None:
    """As they do whenever a call is cancelled early."""
    with anyio.fail_after(60):
        async with over_http(environment, COMMAND) as (address, process):
            start = head(address, f"MCP-Protocol-Version: {version}")
            for said in (start, start + HELLO[:20]):
                with idle(address, 5, said):
                    pass
            async with Client(address) as client:
                await client.list_tools()
            assert await end(process) == []
