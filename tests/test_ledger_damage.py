"""A ledger that is cut, emptied or overwritten in place, under a server that runs or before one starts: nothing is
paid for that would be forgotten, and what is put back is found again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import damage
import pytest
from bench import TAKEN_NEXT, Connect
from damage import Damage
from fault_gateway import CREATE, FaultGateway
from mcp import Client

from sora_mcp.ledger import Intent, Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, TAKEN_NEXT)
    return gateway


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.sqlite3"


async def use(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    called = await client.call_tool(tool, arguments)
    told: dict[str, Any] = called.structured_content
    return told


async def create(client: Client, prompt: str = "fly man") -> dict[str, Any]:
    return await use(client, "create_video", prompt=prompt)


IN_PLACE: dict[str, tuple[Damage, str]] = {
    "the log emptied": (damage.cut("-wal", 0), "ledger.sqlite3-wal beside it was emptied"),
    "the log cut in half": (damage.cut("-wal", 0.5), "ledger.sqlite3-wal beside it was cut"),
    "the log without its last byte": (damage.cut_last_bytes("-wal", 1), "ledger.sqlite3-wal beside it was cut"),
    "the log cut to its header": (damage.cut_to("-wal", 32), "ledger.sqlite3-wal beside it was cut"),
    "the log overwritten at its start": (damage.overwrite("-wal", 0), "ledger.sqlite3-wal beside it was overwritten"),
    "the file emptied": (damage.cut("", 0), "it was emptied"),
    "the index cut": (damage.cut("-shm", 0), "ledger.sqlite3-shm beside it was cut"),
}
"""What is seen at any look, and what is said of it."""

CONTENT: dict[str, tuple[Damage, str]] = {
    "the log overwritten within a page": (damage.overwrite("-wal", 0.5), "ledger.sqlite3-wal beside it was overwr"),
    "much of the log overwritten": (damage.overwrite("-wal", 0.5, 9000), "ledger.sqlite3-wal beside it was overwrit"),
    "the last page of the log overwritten": (damage.overwrite("-wal", 1), "ledger.sqlite3-wal beside it was overwr"),
    "the file cut in half": (damage.cut("", 0.5), "it was cut or overwritten"),
    "pages of the file overwritten": (damage.overwrite("", 0.5, 40960), "it was cut or overwritten"),
}
"""What is seen by whoever is about to pay."""


def files(ledger: Path) -> dict[Path, bytes]:
    return {each: damage.read(each) for each in (damage.part(ledger, name) for name in ("", "-wal", "-shm"))}


def put_back(kept: dict[Path, bytes]) -> None:
    for path, data in kept.items():
        damage.put_back(path, data)


@pytest.mark.parametrize("name", IN_PLACE)
async def test_nothing_is_paid_while_a_file_is_harmed_and_all_goes_on_once_it_is_put_back(
    connect: Connect, gateway: FaultGateway, ledger: Path, name: str
) -> None:
    harm, words = IN_PLACE[name]
    async with connect() as client:
        first = await create(client)
        kept = files(ledger)
        harm(ledger)
        for prompt in ("fly man", "another"):
            refused = await create(client, prompt)
            assert refused["outcome"] == "not_submitted"
            assert words in refused["error"]["message"]
            assert "sora-mcp ledger new" in refused["error"]["next_step"]
        for tool, arguments in (("get_video", {"task_id": "task_1"}), ("list_videos", {})):
            told = await use(client, tool, **arguments)
            assert told["error"]["kind"] == "file_problem", told
            assert words in told["error"]["message"]
        put_back(kept)
        again = await create(client)
        assert (again["task_id"], again["duplicate"]) == (first["task_id"], True)
        assert (await create(client, "another"))["outcome"] == "accepted"
    async with connect() as later:
        assert [video["task_id"] for video in (await use(later, "list_videos"))["videos"]] == ["task_2", "task_1"]
    assert len(gateway.creates()) == 2


def copied_into_the_file(ledger: Path) -> None:
    """The log is copied into the file, by SQLite, and begun anew."""
    with closing(sqlite3.connect(ledger)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


@pytest.mark.parametrize("name", CONTENT)
async def test_nothing_is_paid_where_what_a_file_holds_was_overwritten(
    connect: Connect, gateway: FaultGateway, ledger: Path, name: str
) -> None:
    harm, words = CONTENT[name]
    async with connect() as client:
        await create(client)
        if "file" in name:
            copied_into_the_file(ledger)
            await create(client, "one more")
        kept, made = files(ledger), len(gateway.creates())
        harm(ledger)
        refused = await create(client, "another")
        assert refused["outcome"] == "not_submitted"
        assert words in refused["error"]["message"]
        put_back(kept)
        assert (await create(client, "another"))["outcome"] == "accepted"
        assert len(gateway.creates()) == made + 1
    async with connect() as later:
        assert len((await use(later, "list_videos"))["videos"]) == made + 1


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
@pytest.mark.parametrize("also", ["SELECT 1", "VACUUM", "PRAGMA optimize", "REINDEX"])
async def test_what_sqlite_itself_does_with_its_files_is_no_damage(
    connect: Connect, gateway: FaultGateway, ledger: Path, mode: str, also: str
) -> None:
    async with connect() as client:
        for number in range(3):
            assert (await create(client, f"boat {number}"))["outcome"] == "accepted"
            with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
                other.execute(also)
                other.execute(f"PRAGMA wal_checkpoint({mode})")
        assert (await create(client, "boat 0"))["duplicate"]
    assert len(gateway.creates()) == 3


async def test_a_log_that_sqlite_copies_and_begins_anew_by_itself_is_no_damage(ledger: Path) -> None:
    with closing(Ledger(ledger)) as opened:
        for number in range(300):  # each of them adds about nine pages, and after a thousand they are copied
            await opened.begin(Intent("g", "simple_compose", {"prompt": "x"}, f"{number}", [], None))
        assert len(await opened.page("g", limit=1000)) == 300
