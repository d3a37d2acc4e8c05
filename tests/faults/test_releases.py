"""Releases side by side: an older one in the middle of a POST, and a newer one that changes the schema under us.

The first release is taken out of this repository's history; where that is not at hand, its tests are skipped.
"""

from __future__ import annotations

import sqlite3
import subprocess
import tarfile
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import ACCEPTED_NEXT, Connect, environment, task_reply
from fault_gateway import CREATE, FaultGateway, Hold
from mcp import Client
from wire import host

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def first_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package as it was."""
    command = ["git", "archive", "48e9ea5", "sora_mcp"]
    try:
        here = Path(__file__).parents[2]
        packed = subprocess.run(command, check=True, capture_output=True, cwd=here).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the history of this repository, and with it the first release, is not at hand")
    folder = tmp_path_factory.mktemp("first_release")
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, task_reply("QUEUED"))
    return gateway


def older_environment(package: Path, folder: Path, gateway: FaultGateway) -> dict[str, str]:
    """Of a process that runs the older package, wherever it is started."""
    return environment(folder, gateway) | {"PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"}


async def create(client: Client, prompt: str) -> dict[str, Any]:
    structured: dict[str, Any] = (await client.call_tool("create_video", {"prompt": prompt})).structured_content
    return structured


def states(folder: Path) -> list[tuple[str, str | None]]:
    with closing(sqlite3.connect(folder / "home" / "ledger.sqlite3")) as ledger:
        return ledger.execute("SELECT state, task_id FROM videos ORDER BY number").fetchall()


async def test_an_older_release_in_the_middle_of_a_post_records_its_answer_and_begins_nothing_more(
    first_release: Path, connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold), ACCEPTED_NEXT)
    environ = older_environment(first_release, tmp_path, gateway)
    outcomes: dict[str, dict[str, Any]] = {}

    async def pay(client: Client, prompt: str) -> None:
        outcomes[prompt] = await create(client, prompt)

    with anyio.fail_after(60):
        async with host(environ) as older, AsyncExitStack() as later:
            await older.start()
            sending = await older.call("create_video", {"prompt": "fly man"})
            await hold.reached.wait()
            newer = await later.enter_async_context(connect())  # earlier it might migrate before the older one begins
            with anyio.fail_after(15):
                listed = (await newer.call_tool("list_videos", {})).structured_content["videos"]
            assert [each["state"] for each in listed] == ["sending"]
            async with anyio.create_task_group() as calls:
                calls.start_soon(pay, newer, "fly man")  # the same: waits for the first
                calls.start_soon(pay, newer, "another")  # begins once the older one is done
                await anyio.wait_all_tasks_blocked()
                assert len(gateway.creates()) == 1
                hold.release.set()
            answer = await older.answer(sending)
            assert (answer["outcome"], answer["task_id"]) == ("accepted", "task_1")
            assert (outcomes["fly man"]["task_id"], outcomes["fly man"]["duplicate"]) == ("task_1", True)
            assert (outcomes["another"]["outcome"], outcomes["another"]["task_id"]) == ("accepted", "task_2")
            refused = await older.use("create_video", prompt="a third")
            assert refused["outcome"] == "not_submitted"
    assert len(gateway.creates()) == 2
    assert [task_id for _, task_id in states(tmp_path)] == ["task_1", "task_2"]


async def test_while_an_older_release_does_not_come_to_an_end_nothing_is_paid(
    first_release: Path, connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    environ = older_environment(first_release, tmp_path, gateway)
    with anyio.fail_after(60):
        async with host(environ) as older:
            await older.start()
            sending = await older.call("create_video", {"prompt": "fly man"})
            await hold.reached.wait()
            async with connect() as newer:
                refused = await create(newer, "another")
                assert refused["outcome"] == "not_submitted"
                assert "older release" in refused["error"]["message"]
                assert refused["error"]["retryable"]
                seen = (await newer.call_tool("get_video", {"task_id": "task_9"})).structured_content
                assert "error" in seen  # it cannot be recorded now
            hold.release.set()
            assert (await older.answer(sending))["outcome"] == "accepted"
    async with connect() as newer:
        assert (await create(newer, "fly man"))["task_id"] == "task_1"
    assert len(gateway.creates()) == 1


async def test_an_older_release_that_was_killed_keeps_nobody_waiting(
    first_release: Path, connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold), ACCEPTED_NEXT)
    environ = older_environment(first_release, tmp_path, gateway)
    with anyio.fail_after(60):
        async with host(environ) as older:
            await older.start()
            await older.call("create_video", {"prompt": "fly man"})
            await hold.reached.wait()
            await older.kill()
            async with connect() as newer:
                assert (await create(newer, "fly man"))["outcome"] == "unknown"
                assert (await create(newer, "another"))["outcome"] == "accepted"
            hold.release.set()
    assert len(gateway.creates()) == 2


@pytest.mark.parametrize("prompt", ["fly man", " fly man ", "\tfly man\n"])
async def test_what_an_older_release_recorded_is_a_duplicate(
    first_release: Path, connect: Connect, gateway: FaultGateway, tmp_path: Path, prompt: str
) -> None:
    environ = older_environment(first_release, tmp_path, gateway)
    async with host(environ) as older:
        await older.start()
        first = await older.use("create_video", prompt=prompt)
    async with connect() as newer:
        again = await create(newer, prompt)
        assert (again["request_id"], again["duplicate"]) == (first["request_id"], True)
        listed = (await newer.call_tool("list_videos", {})).structured_content["videos"]
        assert [each["task_id"] for each in listed] == [first["task_id"]]
    assert len(gateway.creates()) == 1


async def test_a_newer_schema_still_takes_the_answer_of_a_post_that_has_begun_and_no_new_one(
    connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    outcomes: list[dict[str, Any]] = []

    async def pay(client: Client) -> None:
        outcomes.append(await create(client, "fly man"))

    with anyio.fail_after(30):
        async with connect() as client:
            async with anyio.create_task_group() as calls:
                calls.start_soon(pay, client)
                await hold.reached.wait()
                with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3", isolation_level=None)) as ledger:
                    ledger.execute("ALTER TABLE videos ADD COLUMN of_a_later_release TEXT NOT NULL DEFAULT 'x'")
                    ledger.execute("CREATE TABLE of_a_later_release (x)")
                    ledger.execute("PRAGMA user_version = 99")
                hold.release.set()
            assert outcomes[0]["task_id"] == "task_1"
            seen = (await client.call_tool("get_video", {"task_id": "task_1"})).structured_content
            assert seen["state"] == "queued"
            refused = await create(client, "another")
            assert refused["outcome"] == "not_submitted"
            assert "restart" in refused["error"]["next_step"]
    assert states(tmp_path) == [("queued", "task_1")]
    assert len(gateway.creates()) == 1
