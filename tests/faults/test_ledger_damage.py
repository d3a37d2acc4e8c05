"""A ledger that is cut, emptied or overwritten in place, under a server that runs or before one starts: nothing is
paid for that would be forgotten, and what is put back is found again."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import damage
import pytest
from bench import ACCEPTED_NEXT, Connect, Run
from damage import Damage
from fault_gateway import CREATE, FaultGateway
from mcp import Client

from sora_mcp.ledger import Account, Intent, open_ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
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
        damage.restore(path, data)


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


async def test_nothing_is_paid_where_an_older_copy_was_written_over_the_file(
    connect: Connect, gateway: FaultGateway, ledger: Path
) -> None:
    async with connect() as client:
        await create(client, "of long ago")
        copied_into_the_file(ledger)
        older = damage.read(ledger)
        await create(client)
        copied_into_the_file(ledger)
        newer = damage.read(ledger)
        damage.restore(ledger, older)
        refused = await create(client, "another")
        assert refused["outcome"] == "not_submitted"
        assert "replaced" in refused["error"]["message"]
        damage.restore(ledger, newer)
        again = await create(client)
        assert again.get("duplicate"), again
    assert len(gateway.creates()) == 2


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
    with closing(open_ledger(ledger)) as opened:
        for number in range(300):  # each of them adds about nine pages, and after a thousand they are copied
            await opened.begin(Intent(Account("g"), "simple_compose", {"prompt": "x"}, f"{number}", [], None))
        assert len(await opened.page(Account("g"), limit=1000)) == 300


# --- before a server starts -----------------------------------------------------------------------

AT_REST: dict[str, tuple[Damage, str]] = {
    "the file removed": (damage.remove(""), "it was removed: "),
    "the file emptied": (damage.cut("", 0), "it was emptied: "),
    "all but the log removed": (damage.remove("", "-shm"), "ledger.sqlite3-wal beside it"),
    "all but the index removed": (damage.remove("", "-wal"), "ledger.sqlite3-shm beside it"),
    "all but writers removed": (damage.remove("", "-wal", "-shm"), "the folder writers beside it"),
    "the file emptied, all but writers removed": (
        damage.together(damage.cut("", 0), damage.remove("-wal", "-shm")),
        "it was emptied: the folder writers",
    ),
    "an empty database in its place": (damage.empty_database, "it was emptied: the folder writers"),
    "the log emptied": (damage.cut("-wal", 0), "ledger.sqlite3-wal beside it was emptied"),
    "the log cut": (damage.cut("-wal", 0.5), "ledger.sqlite3-wal beside it was cut"),
    "the log removed": (damage.remove("-wal"), "ledger.sqlite3-wal beside it was removed"),
    "the log overwritten": (damage.overwrite("-wal", 0, 9000), "ledger.sqlite3-wal beside it was overwritten"),
    "log and index removed": (damage.remove("-wal", "-shm"), "it was emptied: the folder writers"),
    "a folder in its place": (damage.together(damage.remove(""), Path.mkdir), "it cannot be opened"),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.glob("ledger*") if each.is_file()}


@pytest.fixture
async def left(connect: Connect, ledger: Path) -> Path:
    """The folder of a server that was killed after its first create."""
    async with connect() as client:
        await create(client)
        copy = ledger.parent.with_name("left")
        damage.as_after_a_kill(ledger.parent, copy)
    return copy


@pytest.mark.parametrize("name", AT_REST)
async def test_what_was_lost_before_a_start_is_not_paid_for_again_and_found_once_it_is_put_back(
    connect: Connect, gateway: FaultGateway, left: Path, name: str
) -> None:
    harm, words = AT_REST[name]
    kept = left.with_name("kept")
    damage.as_after_a_kill(left, kept)
    harm(left / "ledger.sqlite3")
    harmed = contents(left)
    async with connect(home=left) as client:
        for _ in range(2):
            refused = await create(client)
            assert refused["outcome"] == "not_submitted"
            assert words in refused["error"]["message"]
        for tool, arguments in (("get_video", {"task_id": "task_1"}), ("list_videos", {})):
            told = await use(client, tool, **arguments)
            assert told["error"]["kind"] == "file_problem", told
    if harm is not damage.empty_database:  # which may change into ours: nothing is in it
        assert contents(left) == harmed
    async with connect(home=kept) as client:
        assert (await create(client))["duplicate"]
    assert len(gateway.creates()) == 1


NO_LOSS: dict[str, tuple[Damage, bool]] = {
    "nothing": (lambda _: None, True),
    "the index removed": (damage.remove("-shm"), True),
    "the index cut": (damage.cut("-shm", 0), True),
    "everything removed": (lambda path: shutil.rmtree(path.parent), False),
    "an empty file that nothing stands beside": (
        damage.together(lambda path: shutil.rmtree(path.parent), lambda path: path.parent.mkdir(), Path.touch),
        False,
    ),
    "a log that was copied": (copied_into_the_file, True),
}


@pytest.mark.parametrize("name", NO_LOSS)
async def test_a_new_ledger_and_one_that_is_whole_are_paid_from(
    connect: Connect, gateway: FaultGateway, left: Path, name: str
) -> None:
    harm, is_known = NO_LOSS[name]
    harm(left / "ledger.sqlite3")
    async with connect(home=left) as client:
        told = await create(client)
        assert (told["outcome"], told.get("duplicate", False)) == ("accepted", is_known)
    assert len(gateway.creates()) == (1 if is_known else 2)


async def test_tables_without_rows_are_a_new_ledger(connect: Connect, gateway: FaultGateway, ledger: Path) -> None:
    with closing(open_ledger(ledger)) as made:
        assert await made.page(Account("g"), limit=1) == []
    async with connect() as client:
        assert (await create(client))["outcome"] == "accepted"
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("name", ["the file removed", "the file emptied", "the log cut", "all but writers removed"])
def test_the_doctor_and_a_list_at_the_shell_tell_what_happened(run: Run, tmp_path: Path, name: str) -> None:
    run("create", "a boat", SANDBOX_SECONDS="600")
    ledger = tmp_path / "home" / "ledger.sqlite3"
    with closing(open_ledger(ledger)) as opened:
        anyio.run(opened.begin, Intent(Account("g"), "simple_compose", {"prompt": "x"}, "same", [], None))
        damage.as_after_a_kill(ledger.parent, tmp_path / "left")
    harm, words = AT_REST[name]
    harm(tmp_path / "left" / "ledger.sqlite3")
    before = contents(tmp_path / "left")
    for command in (["doctor"], ["list"], ["create", "a boat"]):
        done = run(*command, HOME=str(tmp_path / "left"))
        assert done.returncode == 3
        assert words in done.stdout + done.stderr
        assert "sora-mcp ledger new" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert contents(tmp_path / "left") == before
