"""A ledger that is cut, emptied or overwritten in place, under a server that runs or before one starts: nothing is
paid for that would be forgotten, and what is put back is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import damage
import pytest
from bench import TAKEN_NEXT, Connect
from damage import Damage
from fault_gateway import CREATE, FaultGateway
from mcp import Client

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
    "the log cut to its header": (damage.cut_last_bytes("-wal", 10**9), ""),
    "the log overwritten at its start": (damage.overwrite("-wal", 0), "ledger.sqlite3-wal beside it was overwritten"),
    "the log overwritten in the middle": (damage.overwrite("-wal", 0.5), "ledger.sqlite3-wal beside it was overwr"),
    "the log overwritten at its end": (damage.overwrite("-wal", 1), "ledger.sqlite3-wal beside it was overwritten"),
    "the log zeroed": (damage.overwrite("-wal", 0, 5000), "ledger.sqlite3-wal beside it was overwritten"),
    "emptied": (damage.cut("", 0), "it was emptied"),
    "the index cut": (damage.cut("-shm", 0), "ledger.sqlite3-shm beside it was cut"),
}
del IN_PLACE["the log cut to its header"]


@pytest.mark.parametrize("name", IN_PLACE)
async def test_nothing_is_paid_while_a_file_is_harmed_and_all_goes_on_once_it_is_put_back(
    connect: Connect, gateway: FaultGateway, ledger: Path, name: str
) -> None:
    harm, words = IN_PLACE[name]
    async with connect() as client:
        first = await create(client)
        files = {each: damage.read(damage.part(ledger, each)) for each in ("", "-wal", "-shm")}
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
        for each, data in files.items():
            damage.put_back(damage.part(ledger, each), data)
        again = await create(client)
        assert (again["task_id"], again["duplicate"]) == (first["task_id"], True)
        assert (await create(client, "another"))["outcome"] == "accepted"
    async with connect() as later:
        assert [video["task_id"] for video in (await use(later, "list_videos"))["videos"]] == ["task_2", "task_1"]
    assert len(gateway.creates()) == 2
