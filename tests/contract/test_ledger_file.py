"""The ledger as a SQLite file: several processes, kills, damage, permissions."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from ledgers import FIRST_SCHEMA
from wording import next_step

from sora_mcp.core.batches import BatchLine
from sora_mcp.core.caps import OverCap
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import FileProblem, NotFound
from sora_mcp.core.schedule import LEASE_S
from sora_mcp.ledger import Account, Intent, Ledger, SpendingPolicy, open_ledger
from sora_mcp.ledger.sql.transactions import ABANDONED_REASON
from sora_mcp.ledger.sqlite.file import File
from sora_mcp.ledger.sqlite.liveness import MAX_SENDING_S

pytestmark = pytest.mark.anyio


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(tmp_path / "home" / "ledger.sqlite3")
    yield opened
    opened.close()


async def begin(ledger: Ledger) -> str:
    entry, _ = await ledger.begin(Intent(Account("g"), "simple_compose", {"prompt": "x"}, "same", [], Cost.of(1.25)))
    return entry.request_id


async def test_an_intent_is_on_disk_before_anything_is_sent(tmp_path: Path, ledger: Ledger) -> None:
    request_id = await begin(ledger)
    with sqlite3.connect(tmp_path / "home" / "ledger.sqlite3") as other:
        row = other.execute("SELECT request_id, state FROM videos").fetchone()
    other.close()
    assert row == (request_id, "sending")


async def test_only_the_owner_can_read_the_file(tmp_path: Path, ledger: Ledger) -> None:
    await begin(ledger)
    assert stat.S_IMODE((tmp_path / "home" / "ledger.sqlite3").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_every_transaction_is_synced_to_disk_before_it_counts(tmp_path: Path) -> None:
    def mode(db: sqlite3.Connection) -> tuple[str, int]:
        return db.execute("PRAGMA journal_mode").fetchone()[0], db.execute("PRAGMA synchronous").fetchone()[0]

    with closing(File(tmp_path / "ledger.sqlite3")) as file:
        assert file.transact("BEGIN", mode) == ("wal", 2)  # 2 is FULL: with less, WAL may lose what was committed last


def test_what_was_written_while_the_file_was_taken_away_is_no_success(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"

    def write(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO salt VALUES (x'00')")
        path.rename(tmp_path / "elsewhere")

    with closing(File(path)) as file:
        with pytest.raises(FileProblem, match="removed or replaced"):
            file.transact("BEGIN IMMEDIATE", write)
        (tmp_path / "elsewhere").rename(path)
        assert file.transact("BEGIN", lambda db: db.execute("SELECT count(*) FROM salt").fetchone()[0]) == 0


_WRITE = """
import anyio, sys
from pathlib import Path
from sora_mcp.ledger import Account, Intent, open_ledger

async def main():
    ledger = open_ledger(Path(sys.argv[1]))
    for _ in range(10):
        await ledger.begin(Intent(Account("g"), "simple_compose", {"prompt": "x"}, "same", [], None))

anyio.run(main)
"""


@pytest.mark.slow
async def test_new_processes_that_start_at_once_share_one_file(tmp_path: Path, ledger: Ledger) -> None:
    command = [sys.executable, "-c", _WRITE, str(tmp_path / "home" / "ledger.sqlite3")]
    writers = [subprocess.Popen(command) for _ in range(4)]  # noqa: ASYNC220, S603
    for writer in writers:
        assert await anyio.to_thread.run_sync(writer.wait) == 0
    assert len(await ledger.page(Account("g"), limit=100)) == 40


_SEND = """
import anyio, sys
from pathlib import Path
from sora_mcp.ledger import Account, Intent, open_ledger

async def main():
    intent = Intent(Account("g"), "simple_compose", {"prompt": "x"}, "same", [], None)
    entry, _ = await open_ledger(Path(sys.argv[1])).begin(intent)
    print(entry.request_id, flush=True)
    await anyio.sleep_forever()

anyio.run(main)
"""


async def test_what_a_killed_process_was_sending_is_unknown_and_nothing_else_is(tmp_path: Path, ledger: Ledger) -> None:
    mine = await begin(ledger)
    command = [sys.executable, "-c", _SEND, str(tmp_path / "home" / "ledger.sqlite3")]
    async with await anyio.open_process(command) as sender:
        assert sender.stdout is not None
        theirs = (await sender.stdout.receive()).decode().strip()
        assert [entry.state for entry in await ledger.page(Account("g"), limit=2)] == ["sending", "sending"]
        sender.kill()
        await sender.wait()
    found = await ledger.find(Account("g"), theirs)
    assert found is not None
    assert (found.state, found.failure_reason) == ("unknown", ABANDONED_REASON)
    assert [state for state, _ in await ledger.history(theirs)] == ["sending", "unknown"]
    still = await ledger.find(Account("g"), mine)
    assert still is not None
    assert still.state == "sending"


async def test_a_create_that_a_cap_forbids_records_that_a_sender_is_gone(tmp_path: Path, ledger: Ledger) -> None:
    path = tmp_path / "home" / "ledger.sqlite3"
    async with await anyio.open_process([sys.executable, "-c", _SEND, str(path)]) as sender:
        assert sender.stdout is not None
        theirs = (await sender.stdout.receive()).decode().strip()
        sender.kill()
        await sender.wait()
    other = Intent(Account("g"), "simple_compose", {"prompt": "x"}, "other", [], Cost.of(1.25))
    with pytest.raises(OverCap, match=f"{theirs} .unknown"):
        await ledger.begin(other, SpendingPolicy(running=1))
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT request_id, state, failure_reason FROM videos").fetchall()
    assert rows == [(theirs, "unknown", ABANDONED_REASON)]


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def two(tmp_path: Path, now: list[float]) -> Iterator[tuple[Ledger, Ledger]]:
    """Two ledgers on one file, with a clock that the test sets."""
    path = tmp_path / "home" / "ledger.sqlite3"
    both = open_ledger(path, lambda: now[0]), open_ledger(path, lambda: now[0])
    yield both
    for each in both:
        each.close()


async def state(ledger: Ledger, request_id: str) -> str:
    found = await ledger.find(Account("g"), request_id)
    assert found is not None
    return found.state


def remove_locks(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def spoil_locks(folder: Path) -> None:
    names = [path.name for path in folder.iterdir()]
    remove_locks(folder)
    for name in names:
        (folder / name).write_bytes(b"no lock " * 600)


@pytest.mark.parametrize("spoil", [remove_locks, spoil_locks])
async def test_a_writer_whose_lock_was_taken_away_or_spoilt_is_taken_to_live_for_as_long_as_a_create_can_last(
    tmp_path: Path, two: tuple[Ledger, Ledger], now: list[float], spoil: Callable[[Path], None]
) -> None:
    mine, theirs = two
    request_id = await begin(mine)
    spoil(tmp_path / "home" / "writers")
    now[0] += MAX_SENDING_S
    assert await state(theirs, request_id) == "sending"
    now[0] += 1
    assert await state(theirs, request_id) == "unknown"


async def test_a_writer_whose_lock_was_taken_away_takes_another_before_it_sends_again(
    tmp_path: Path, two: tuple[Ledger, Ledger], now: list[float]
) -> None:
    mine, theirs = two
    await begin(mine)
    remove_locks(tmp_path / "home" / "writers")
    request_id = await begin(mine)
    now[0] += MAX_SENDING_S + 1
    assert await state(theirs, request_id) == "sending"


async def test_a_lock_is_removed_at_the_end_but_not_while_a_row_says_that_its_writer_is_sending(
    tmp_path: Path, two: tuple[Ledger, Ledger]
) -> None:
    mine, theirs = two
    open_still, done = await begin(mine), await begin(theirs)
    await theirs.record_accepted(done, "task_1")
    theirs.close()
    left = min((tmp_path / "home" / "writers").iterdir())
    mine.close()
    assert left.exists()
    assert await state(theirs, open_still) == "unknown"


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_a_damaged_ledger_is_refused_in_our_own_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(content)
    with pytest.raises(FileProblem, match="cannot be used") as caught:
        await begin(open_ledger(path))
    assert "SORA_HOME" in next_step(caught.value)
    assert path.read_bytes() == content


async def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path, ledger: Ledger) -> None:
    await begin(ledger)
    ledger.close()
    with sqlite3.connect(tmp_path / "home" / "ledger.sqlite3") as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(FileProblem, match="newer version"):
        await begin(ledger)


@pytest.mark.parametrize("version", range(1, 11))
async def test_a_file_gets_all_that_it_lacks_whatever_it_says_it_has(tmp_path: Path, version: int) -> None:
    path, ann = tmp_path / "ledger.sqlite3", Account("https://g.example", "0123456789abcdef", "ann")
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{FIRST_SCHEMA} PRAGMA user_version = {version};")
        if version > 1:
            db.execute("ALTER TABLE videos ADD COLUMN writer TEXT")
    with closing(open_ledger(path)) as opened:
        assert [(entry.account, entry.task_id) for entry in await opened.page(ann, limit=9)] == [(ann, "task_1")]
        line = BatchLine("film.jsonl", "line:1", "digest", keys=frozenset({"line:1"}))
        await opened.begin(Intent(ann, "simple_compose", {"prompt": "x"}, "same", [], Cost.of(1), line=line))
        assert set(await opened.lines(ann, ["line:1"])) == {"line:1"}
        assert (await opened.totals(ann)).counts == {"running": 1, "sending": 1}


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FileProblem, match="cannot be used"):
        await begin(open_ledger(tmp_path / "file" / "ledger.sqlite3"))


async def test_a_turn_goes_on_where_the_file_can_no_longer_be_written(tmp_path: Path, ledger: Ledger) -> None:
    request_id = await begin(ledger)
    path = tmp_path / "home" / "ledger.sqlite3"

    async def ask() -> None:
        async with ledger.lease(request_id):
            path.rename(tmp_path / "elsewhere")
            await anyio.sleep(LEASE_S / 2)  # in between the claim would be kept alive
            raise NotFound("what was asked for")

    with pytest.raises(NotFound):
        await ask()
    (tmp_path / "elsewhere").rename(path)
    assert (await ledger.page(Account("g"), limit=1))[0].failed_polls == 0
