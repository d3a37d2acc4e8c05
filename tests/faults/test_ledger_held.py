"""The ledger's file is held by a process that was stopped: whoever only wants to know goes on, nobody pays."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from bench import ACCEPTED_NEXT, Connect, finished
from fault_gateway import CREATE, FaultGateway, Hold
from mcp import Client

from sora_mcp.ledger.sql.transactions import BUSY_TIMEOUT_S

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    return gateway


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody else can write to the ledger."""
    with closing(sqlite3.connect(folder / "home" / "ledger.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def use(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    called = await client.call_tool(tool, arguments)
    told: dict[str, Any] = called.structured_content
    return told


async def create(client: Client, times: int) -> None:
    for number in range(times):
        await use(client, "create_video", prompt=f"kite {number}")


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("get_video", {"task_id": "task_1"}),
    ("get_video", {"task_id": "task_2", "wait_seconds": 1}),
    ("list_videos", {}),
]


@pytest.mark.parametrize(("tool", "arguments"), CALLS)
async def test_whoever_looks_waits_for_nobody_and_is_told_what_is_known(
    connect: Connect, tmp_path: Path, tool: str, arguments: dict[str, Any]
) -> None:
    async with connect() as client, connect() as started_later:
        await create(client, 3)
        with held(tmp_path), anyio.fail_after(BUSY_TIMEOUT_S / 2):
            for each in (client, started_later):
                told = await use(each, tool, **arguments)
                states = {video["state"] for video in told.get("videos", [told])}
                assert states <= {"submitted", "running"}


async def test_whoever_looks_is_answered_though_much_waits_to_be_written(connect: Connect, tmp_path: Path) -> None:
    told: dict[str, dict[str, Any]] = {}

    async with connect(query_timeout=0.5) as client:

        async def look(tool: str) -> None:
            told[tool] = await use(client, tool, task_id="task_1")

        await create(client, 1)
        with held(tmp_path):
            async with anyio.create_task_group() as calls:
                for number in range(3):  # each of them waits for as long as it may
                    calls.start_soon(partial(use, client, "create_video", prompt=f"boat {number}"))
                await anyio.wait_all_tasks_blocked()
                with anyio.fail_after(BUSY_TIMEOUT_S):
                    async with anyio.create_task_group() as looks:
                        for tool in ("get_video", "view_video", "download_video"):
                            looks.start_soon(look, tool)
                calls.cancel_scope.cancel()
    assert told.pop("get_video")["state"] in {"submitted", "running"}
    assert [each["error"]["kind"] for each in told.values()] == ["not_ready"] * 2


async def test_what_has_finished_is_told_at_once_while_this_server_sends_and_waits_to_write(
    connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("GET", CREATE, finished("https://v.example/1.mp4"))
    hold = Hold()
    async with connect() as client:
        await create(client, 1)
        assert (await use(client, "get_video", task_id="task_1"))["state"] == "succeeded"
        gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
        async with anyio.create_task_group() as calls:
            calls.start_soon(partial(use, client, "create_video", prompt="a boat that is being sent"))
            await hold.reached.wait()
            with held(tmp_path):
                calls.start_soon(partial(use, client, "create_video", prompt="a boat that waits for the ledger"))
                await anyio.wait_all_tasks_blocked()
                with anyio.fail_after(BUSY_TIMEOUT_S / 2):
                    assert (await use(client, "get_video", task_id="task_1"))["state"] == "succeeded"
            hold.release.set()


async def test_nothing_is_submitted_and_that_is_said_however_many_are_followed(
    connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    async with connect() as client:
        await create(client, 12)
        with held(tmp_path):
            refused = await use(client, "create_video", prompt="one more")
        assert refused["outcome"] == "not_submitted"
        assert "another process has locked it" in refused["error"]["message"]
        assert refused["error"]["retryable"] is True
        await use(client, "list_videos")
    assert len(gateway.creates()) == 12


@pytest.mark.slow
async def test_of_many_creates_at_once_each_is_refused_in_time_and_none_is_sent_later(
    connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    refused: list[dict[str, Any]] = []
    many = 12

    async def one(number: int) -> None:
        told = await use(client, "create_video", prompt=f"boat {number}")
        refused.extend([told] if told["outcome"] == "not_submitted" else [])
        some.set() if len(refused) >= many - 1 else None

    async with connect() as client:
        await create(client, 1)
        some = anyio.Event()
        async with anyio.create_task_group() as calls:
            with held(tmp_path), anyio.fail_after(BUSY_TIMEOUT_S * 1.5):
                for number in range(many):
                    calls.start_soon(one, number)
                await some.wait()
        assert all("another process has locked it" in each["error"]["message"] for each in refused)
        await use(client, "list_videos")
    assert len(gateway.creates()) == 1 + many - len(refused)


async def test_a_task_is_followed_on_once_the_ledger_can_be_written_again(
    connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    async with connect() as client:
        await create(client, 1)
        with held(tmp_path):
            await use(client, "get_video", task_id="task_1", wait_seconds=1)
        asked = len(gateway.requests("GET"))
        with anyio.fail_after(20):
            while len(gateway.requests("GET")) == asked:
                await anyio.lowlevel.checkpoint()


async def test_a_call_that_is_given_up_while_it_waits_for_the_ledger_is_not_sent(
    connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    async with connect() as client:
        await create(client, 1)
        with held(tmp_path):
            async with anyio.create_task_group() as calls:
                calls.start_soon(partial(use, client, "create_video", prompt="another"))
                calls.start_soon(partial(use, client, "create_video", prompt="one more"))
                await anyio.wait_all_tasks_blocked()
                calls.cancel_scope.cancel()
        with anyio.fail_after(20):
            while len((await use(client, "list_videos", status="rejected"))["videos"]) < 2:
                pass
        assert len(gateway.creates()) == 1
        told = await use(client, "create_video", prompt="another")
    assert (told["outcome"], "duplicate" in told) == ("accepted", False)
    assert len(gateway.creates()) == 2


async def test_a_create_is_made_though_others_hold_the_file_one_after_another_for_longer_than_it_waits_for_one(
    connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    async with connect() as client:
        await create(client, 1)
        done = anyio.Event()
        told: list[dict[str, Any]] = []

        async def create_another() -> None:
            told.append(await use(client, "create_video", prompt="another"))
            done.set()

        with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3", isolation_level=None)) as other:
            async with anyio.create_task_group() as group:
                other.execute("BEGIN IMMEDIATE")
                group.start_soon(create_another)
                for number in range(4):
                    with anyio.move_on_after(BUSY_TIMEOUT_S / 3):
                        await done.wait()
                    other.execute("UPDATE videos SET progress = ?", [number])
                    other.execute("COMMIT")
                    if number < 3:
                        other.execute("BEGIN IMMEDIATE")
    assert told[0]["outcome"] == "accepted"
    assert len(gateway.creates()) == 2
