"""A ledger that is taken away, or replaced, under a server that runs: nothing is paid for that would be forgotten."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import ACCEPTED_NEXT, Connect
from fault_gateway import CREATE, FaultGateway, Hold, says
from mcp import Client

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    return gateway


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


async def create(client: Client, prompt: str = "fly man") -> dict[str, Any]:
    called = await client.call_tool("create_video", {"prompt": prompt})
    told: dict[str, Any] = called.structured_content
    return told


async def pay(client: Client, told: list[dict[str, Any]]) -> None:
    told.append(await create(client))


async def test_without_its_record_nothing_is_submitted(connect: Connect, gateway: FaultGateway, home: Path) -> None:
    async with connect() as client:
        await create(client)
        (home / "ledger.sqlite3").rename(home / "elsewhere")
        refused = await create(client, "another")
        assert refused["outcome"] == "not_submitted"
        assert "removed or replaced" in refused["error"]["message"]
        listed = await client.call_tool("list_videos", {})
        assert listed.is_error
        (home / "elsewhere").rename(home / "ledger.sqlite3")
        again = await create(client)
        assert (again["task_id"], again["duplicate"]) == ("task_1", True)
    assert len(gateway.creates()) == 1


async def test_of_two_servers_neither_pays_again_where_the_whole_folder_was_removed(
    connect: Connect, gateway: FaultGateway, home: Path
) -> None:
    async with connect() as earlier:
        await create(earlier, "of long ago")
        shutil.rmtree(home)
        async with connect() as later:
            first = await create(later)
            again = await create(earlier)
            assert again["outcome"] == "not_submitted"
        async with connect() as restarted:
            again = await create(restarted)
            assert (again["task_id"], again["duplicate"]) == (first["task_id"], True)
    assert len(gateway.creates()) == 2


async def test_nobody_pays_where_the_record_was_removed_while_a_server_shows_that_there_was_one(
    connect: Connect, gateway: FaultGateway, home: Path
) -> None:
    async with connect() as earlier:
        await create(earlier)
        for each in ("", "-wal", "-shm"):
            (home / f"ledger.sqlite3{each}").unlink()
        async with connect() as later:
            for client in (earlier, later):
                assert (await create(client))["outcome"] == "not_submitted"
    async with connect() as restarted:
        refused = await create(restarted)
        assert refused["outcome"] == "not_submitted"
        assert "removed" in refused["error"]["message"]
        assert "sora-mcp ledger new" in refused["error"]["next_step"]
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("beside", [["-wal"], ["-wal", "-shm"], ["-shm"]], ids=str)
async def test_nothing_is_paid_where_what_stands_beside_the_record_was_removed(
    connect: Connect, gateway: FaultGateway, home: Path, beside: list[str]
) -> None:
    async with connect() as client:
        await create(client)
        for each in beside:
            (home / f"ledger.sqlite3{each}").unlink()
        assert (await create(client, "another"))["outcome"] == "not_submitted"
    assert len(gateway.creates()) == 1


async def test_nothing_is_paid_where_an_older_copy_was_put_into_the_same_file(
    connect: Connect, gateway: FaultGateway, home: Path
) -> None:
    async with connect() as client:
        await create(client, "of long ago")
        with closing(sqlite3.connect(home / "ledger.sqlite3")) as ledger, closing(sqlite3.connect(":memory:")) as copy:
            ledger.backup(copy)
            await create(client)
            copy.backup(ledger)
        again = await create(client)
    assert again["outcome"] == "not_submitted"
    assert "removed or replaced" in again["error"]["message"]
    assert len(gateway.creates()) == 2


async def test_a_task_accepted_while_the_record_is_away_is_told_and_recorded_once_it_is_back(
    connect: Connect, gateway: FaultGateway, home: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    told: list[dict[str, Any]] = []

    with anyio.fail_after(30):
        async with connect() as client:
            async with anyio.create_task_group() as calls:
                calls.start_soon(pay, client, told)
                await hold.reached.wait()
                (home / "ledger.sqlite3").rename(home / "elsewhere")
                hold.release.set()
            assert "task_1" in told[0]["error"]["message"]
            (home / "elsewhere").rename(home / "ledger.sqlite3")
        async with connect() as client:
            listed = await client.call_tool("list_videos", {})
    assert [video["task_id"] for video in listed.structured_content["videos"]] == ["task_1"]
    assert len(gateway.creates()) == 1


async def test_nothing_is_sent_again_once_the_record_was_taken_away(
    connect: Connect, gateway: FaultGateway, home: Path
) -> None:
    hold = Hold()
    busy = says({"error": {"message": "busy", "type": "new_api_error"}}, 429)
    gateway.on("POST", CREATE, replace(busy, hold=hold), ACCEPTED_NEXT)
    told: list[dict[str, Any]] = []

    with anyio.fail_after(60):
        async with connect() as first:
            async with anyio.create_task_group() as calls:
                calls.start_soon(pay, first, told)
                await hold.reached.wait()
                shutil.move(home, home.with_name("elsewhere"))
                async with connect() as second:
                    assert (await create(second))["outcome"] == "accepted"
                hold.release.set()
            shutil.rmtree(home)
            shutil.move(home.with_name("elsewhere"), home)
    assert told[0]["outcome"] == "rejected"
    assert len(gateway.accepted()) == 1
