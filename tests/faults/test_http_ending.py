"""SIGTERM over HTTP, on both eras: calls under way are answered, what stands for ever is ended, nothing is lost."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import Process
from bench import ACCEPTED, COMMAND, ERAS, RUNNING, Era, environment, over_http
from fault_gateway import CREATE, FaultGateway, Hold
from mcp import Client

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")]

SESSION = {"Accept": "text/event-stream, application/json", "Content-Type": "application/json"}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


def rows(folder: Path) -> list[Any]:
    with closing(sqlite3.connect(folder / "home" / "ledger.sqlite3")) as ledger:
        return ledger.execute("SELECT task_id, state FROM videos").fetchall()


async def standing_stream(client: httpx.AsyncClient, address: str, opened: anyio.Event) -> bytes:
    """A stream of notifications of a session, as hosts keep one; what it said until it ended."""
    hello = await client.post(address, json=HELLO, headers=SESSION)
    session = SESSION | {"Mcp-Session-Id": hello.headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-06-18"}
    await client.post(address, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session)
    async with client.stream("GET", address, headers=session) as stream:
        assert stream.status_code == 200
        opened.set()
        return await stream.aread()  # raises where it just breaks


async def told_to_end(process: Process) -> None:
    """SIGTERM has arrived, and the server says what it waits for."""
    process.terminate()
    assert process.stderr is not None
    assert b"shutting down: waiting up to" in await process.stderr.receive()


@pytest.mark.parametrize("era", ERAS)
async def test_a_create_under_way_is_answered_and_recorded(gateway: FaultGateway, tmp_path: Path, era: Era) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
    answers: list[Any] = []

    async def create(client: Client) -> None:
        answers.append((await client.call_tool("create_video", {"prompt": "fly man"})).structured_content)

    with anyio.fail_after(60):
        async with over_http(environment(tmp_path, gateway), COMMAND) as (address, process):
            opened = anyio.Event()
            async with httpx.AsyncClient(timeout=30) as http, Client(address, mode=era) as client:
                await client.list_tools()  # else the client asks for them after its first call
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(standing_stream, http, address, opened)
                    tasks.start_soon(create, client)
                    await hold.reached.wait()
                    await opened.wait()
                    await told_to_end(process)
                    hold.release.set()
            await process.wait()
    assert [each["outcome"] for each in answers] == ["accepted"]
    assert rows(tmp_path) == [("task_new", "submitted")]
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_whoever_waits_for_a_video_is_told_and_goes_on_being_told(
    gateway: FaultGateway, tmp_path: Path, era: Era
) -> None:
    gateway.on("POST", CREATE, ACCEPTED)
    gateway.on("GET", CREATE, RUNNING)
    answers: list[Any] = []
    heard = anyio.Event()

    async def hear(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - its type
        heard.set()

    async def wait_for(client: Client) -> None:
        arguments = {"task_id": "task_new", "wait_seconds": 5}
        answers.append((await client.call_tool("get_video", arguments, progress_callback=hear)).structured_content)

    with anyio.fail_after(60):
        async with over_http(environment(tmp_path, gateway), COMMAND) as (address, process):
            async with Client(address, mode=era) as client, anyio.create_task_group() as tasks:
                await client.call_tool("create_video", {"prompt": "fly man"})
                tasks.start_soon(wait_for, client)
                await heard.wait()
                heard = anyio.Event()
                await told_to_end(process)
                await heard.wait()
            await process.wait()
    assert [each["state"] for each in answers] == ["running"]


async def test_a_user_who_has_not_answered_does_not_hold_it_up_and_the_call_is_told_so(
    gateway: FaultGateway, tmp_path: Path
) -> None:
    """Of the older era the call waits, and no answer can reach a server that listens no more."""
    asked = anyio.Event()
    answers: list[Any] = []

    async def never(context: Any, params: Any) -> Any:  # noqa: ARG001 - the callback names them
        asked.set()
        await anyio.sleep_forever()

    async def create(client: Client) -> None:
        answers.append((await client.call_tool("create_video", {"prompt": "fly man"})).structured_content)

    with anyio.fail_after(20):
        async with over_http(environment(tmp_path, gateway, ASK_ABOVE_COST="0.5"), COMMAND) as (address, process):
            async with Client(address, mode="legacy", elicitation_callback=never) as client:
                await client.list_tools()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(create, client)
                    await asked.wait()
                    process.terminate()
            assert process.stderr is not None
            log = b"".join([chunk async for chunk in process.stderr])
    assert [each["outcome"] for each in answers] == ["not_submitted"]
    assert "could not wait for the user's answer" in answers[0]["error"]["message"]
    assert b"traceback" not in log.lower()
    assert gateway.creates() == []


async def test_streams_that_stand_for_ever_do_not_hold_it_up(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with (
            over_http(environment(tmp_path), COMMAND) as (address, process),
            httpx.AsyncClient(timeout=30) as http,
        ):
            async with Client(address) as client, client.listen(resources_list_changed=True) as events:
                async with anyio.create_task_group() as tasks:
                    opened = [anyio.Event() for _ in range(3)]
                    for each in opened:
                        tasks.start_soon(standing_stream, http, address, each)
                    for each in opened:
                        await each.wait()
                    process.terminate()
                assert [event async for event in events] == []
            with anyio.fail_after(5):
                await process.wait()


async def test_whoever_was_connected_when_the_server_ends_is_answered(tmp_path: Path) -> None:
    """As a proxy is, which may pass a request to no other server once it has sent it."""
    answers: list[bytes] = []
    connected = anyio.Event()

    async def ask(host: str, port: int) -> None:
        while True:
            try:
                connection = await anyio.connect_tcp(host, port)
            except OSError:
                return
            async with connection:
                connected.set()
                await connection.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                try:
                    answers.append((await connection.receive())[:12])
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    answers.append(b"no answer")

    with anyio.fail_after(60):
        for _ in range(3):
            async with over_http(environment(tmp_path), COMMAND) as (address, process):
                target = httpx.URL(address)
                async with anyio.create_task_group() as clients:
                    for _ in range(4):
                        clients.start_soon(ask, target.host, target.port or 0)
                    await connected.wait()
                    process.terminate()
                await process.wait()
    assert set(answers) == {b"HTTP/1.1 200"}
