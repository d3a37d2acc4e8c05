"""`sora-mcp ledger new`: a new ledger where the old one is lost, and what is left of that one is kept."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path

import anyio
import damage
import pytest
from bench import Run, over_stdio
from damage import Damage
from mcp import Client
from warm import warm_command

from sora_mcp.ledger import Account, Intent, SpendingPolicy, open_ledger
from sora_mcp.ledger.sqlite.renewal import set_aside


async def begin(path: Path, copy: Path) -> None:
    with closing(open_ledger(path)) as opened:
        _, is_new = await opened.begin(
            Intent(Account("g"), "simple_compose", {"prompt": "x"}, "same", [], None), SpendingPolicy(60)
        )
        assert is_new
        damage.as_after_a_kill(path.parent, copy)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a server that was killed in the middle of a create."""
    anyio.run(begin, tmp_path / "home" / "ledger.sqlite3", tmp_path / "left")
    return tmp_path / "left"


def contents(folder: Path) -> dict[str, bytes]:
    parts = [*folder.glob("ledger.sqlite3*"), *folder.glob("writers/" + "[0-9a-f]" * 16)]
    return {str(each.relative_to(folder)): each.read_bytes() for each in parts}


def names_in(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


HARMS: dict[str, Damage] = {
    "whole": lambda _: None,
    "removed": damage.remove(""),
    "emptied": damage.cut("", 0),
    "cut log": damage.cut("-wal", 0.5),
    "writers only": damage.remove("", "-wal", "-shm"),
    "overwritten": damage.overwrite("", 0, 4000),
}


@pytest.mark.parametrize("name", HARMS)
def test_what_is_left_of_the_old_one_is_kept_as_it_was_and_the_next_create_is_paid_from_a_new_one(
    run: Run, home: Path, name: str
) -> None:
    HARMS[name](home / "ledger.sqlite3")
    left = contents(home)
    done = run("ledger", "new", "--yes", "--json", HOME=str(home))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ledger"] == str(home / "ledger.sqlite3")
    aside = Path(told["set_aside"])
    assert aside.parent == home
    assert aside.name.startswith("ledger-20")
    assert contents(aside) == left
    assert set(told["files"]) == {each.name for each in aside.iterdir()}
    assert contents(home) == {}
    anyio.run(
        begin, home / "ledger.sqlite3", home.with_name("later")
    )  # which would not be done where the old one still counted


def test_where_nothing_is_nothing_is_done(run: Run, tmp_path: Path) -> None:
    done = run("ledger", "new", "--yes")
    assert done.returncode == 0
    assert "There is no ledger at" in done.stdout
    assert not list(tmp_path.glob("home/*"))


def test_without_somebody_to_ask_it_wants_to_be_told_yes(run: Run, home: Path) -> None:
    left = contents(home)
    for words in ([], ["--json"]):
        done = run("ledger", "new", *words, HOME=str(home))
        assert done.returncode == 2
        assert "--yes" in done.stdout + done.stderr
    assert contents(home) == left


def test_one_after_the_other_has_a_folder_of_its_own(home: Path) -> None:
    folders = [set_aside(home / "ledger.sqlite3")[0]]
    for _ in range(2):
        (home / "ledger.sqlite3").touch()
        folders.append(set_aside(home / "ledger.sqlite3")[0])
    assert len(set(folders)) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("harm", ["whole", "emptied", "removed", "cut log"])
async def test_nothing_is_moved_while_a_server_has_it_open(
    environment: dict[str, str], tmp_path: Path, harm: str
) -> None:
    home = tmp_path / "home"
    command = [*warm_command(), "ledger", "new", "--yes"]
    async with Client(over_stdio(environment)) as client:
        await client.call_tool("create_video", {"prompt": "a boat"})
        HARMS[harm](home / "ledger.sqlite3")
        names = names_in(home)
        done = await anyio.run_process(command, env=environment, check=False, stderr=subprocess.PIPE)
        assert done.returncode == 3
        assert b"is in use" in done.stderr
        assert names_in(home) == names
    done = await anyio.run_process(command, env=environment, check=False)
    assert done.returncode == 0
