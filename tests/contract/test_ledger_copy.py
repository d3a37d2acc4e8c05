"""`sora-mcp ledger copy`: a ledger moves from its file into PostgreSQL, whole or not at all."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import psycopg
import pytest
from bench import COMMAND, Run, killed_on_failure, over_stdio
from ledger_copies import GATEWAY, KEY, TABLES, fill, in_database, in_file, intent, multiply
from mcp import Client
from postgres import Cluster

from sora_mcp.config.converters import Secret
from sora_mcp.core.errors import FileProblem
from sora_mcp.core.tasks import Task
from sora_mcp.ledger import Ledger, open_ledger
from sora_mcp.ledger.opening import copy_ledger

pytestmark = pytest.mark.slow

COPY = ("ledger", "copy", "--yes")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger that holds something of everything."""
    path = tmp_path / "home" / "ledger.sqlite3"
    anyio.run(fill, path)
    return path


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.database()


def in_postgres(file: Path, url: str) -> Ledger:
    return open_ledger(file, url=Secret(url))


async def pay(ledger: Ledger, number: int = 99) -> int:
    """Begin something new; the number of its row."""
    account = await ledger.account(GATEWAY, KEY, "ann")
    entry, is_new = await ledger.begin(intent(account, number))
    assert is_new
    return entry.number


def test_every_column_of_every_row_is_there_and_the_file_is_as_it_was(run: Run, file: Path, url: str) -> None:
    before = in_file(file)
    done = run(*COPY, "--json", LEDGER_URL=url)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["outcome"] == "copied"
    assert told["rows"] == {table: len(rows) for table, rows in before.items()}
    assert all(told["rows"].values())
    assert in_file(file) == before
    assert in_database(url, file) == before


@pytest.mark.anyio
async def test_the_copy_goes_on_where_the_file_ended(run: Run, file: Path, url: str) -> None:
    with closing(open_ledger(file)) as ledger:
        account = await ledger.account(GATEWAY, KEY, "ann")
        page, keys = await ledger.page(account, limit=50), await ledger.seal_keys()
    run(*COPY, LEDGER_URL=url)
    with closing(in_postgres(file, url)) as ledger:
        assert await ledger.account(GATEWAY, KEY, "ann") == account
        assert await ledger.page(account, limit=50) == page
        assert await ledger.seal_keys() == keys
        assert not await ledger.use_answer("answer", 600)
        number = await pay(ledger)
        assert number > page[0].number
        newest, *older = await ledger.page(account, limit=3)
        assert newest.number == number
        assert older == page[:2]
        entry = page[0]
        assert (await ledger.record(entry, Task("succeeded"))).state == "succeeded"


@pytest.mark.anyio
async def test_nothing_is_paid_from_the_file_any_more_and_it_can_be_read(run: Run, file: Path, url: str) -> None:
    run(*COPY, LEDGER_URL=url)
    with closing(open_ledger(file)) as ledger:
        account = await ledger.account(GATEWAY, KEY, "ann")
        page = await ledger.page(account, limit=50)
        unknown = next(each for each in page if each.state == "unknown")
        uses: list[Callable[[], object]] = [
            lambda: pay(ledger),
            lambda: ledger.settle(account, unknown.request_id, "task_9"),
            lambda: ledger.adopt(account, "task_other", Task("running")),
            ledger.check_can_begin,
        ]
        for use in uses:
            with pytest.raises(FileProblem) as refused:
                await use()  # type: ignore[misc]
            assert "was copied to PostgreSQL" in refused.value.message
        assert await ledger.page(account, limit=50) == page
    # An earlier release looks for no mark, and its insert fails all the same.
    names = "request_id, gateway, address, state, body, sources, created_at, updated_at"
    insert = f"INSERT INTO videos ({names}) VALUES ('req_1', 'g', 'g', 'sending', '{{}}', '[]', 1, 1)"  # noqa: S608
    with closing(sqlite3.connect(file)) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(insert)
    said = run("create", "a boat")
    assert said.returncode == 3
    assert "Nothing was submitted" in said.stderr
    assert "set SORA_LEDGER_URL to that database" in said.stderr
    assert run("list").returncode == 0


def test_run_again_it_says_that_all_is_there(run: Run, file: Path, url: str) -> None:
    run(*COPY, LEDGER_URL=url)
    with closing(in_postgres(file, url)) as ledger:
        anyio.run(pay, ledger)
    rows = in_database(url, file)
    again = run(*COPY, "--json", LEDGER_URL=url)
    assert (again.returncode, json.loads(again.stdout)["outcome"]) == (0, "copied_before")
    assert in_database(url, file) == rows


def test_a_try_leaves_nothing_behind(run: Run, file: Path, url: str) -> None:
    done = run("ledger", "copy", "--dry-run", LEDGER_URL=url)
    assert done.returncode == 0
    assert "13 videos" in done.stdout
    with psycopg.connect(url) as db:
        assert db.execute("SELECT to_regclass('videos')").fetchone() == (None,)
    with closing(open_ledger(file)) as ledger:
        anyio.run(pay, ledger)


def test_of_another_ledger_and_of_an_empty_database_after_the_copy_nothing_is_touched(
    run: Run, file: Path, url: str, cluster: Cluster
) -> None:
    with closing(in_postgres(file, url)) as other:
        anyio.run(pay, other)
    rows, before = in_database(url, file), in_file(file)
    done = run(*COPY, LEDGER_URL=url)
    assert done.returncode == 3
    assert "another ledger" in done.stderr
    assert (in_database(url, file), in_file(file)) == (rows, before)
    with closing(open_ledger(file)) as ledger:
        anyio.run(pay, ledger)

    first, second = cluster.database(), cluster.database()
    assert run(*COPY, LEDGER_URL=first).returncode == 0
    refused = run(*COPY, LEDGER_URL=second)
    assert refused.returncode == 3
    assert "--again" in refused.stderr
    assert run(*COPY, "--again", LEDGER_URL=second).returncode == 0
    assert in_database(second, file) == in_file(file)


def test_a_database_in_which_a_server_only_looked_is_taken(run: Run, file: Path, url: str) -> None:
    run("list", LEDGER_URL=url)
    run("doctor", LEDGER_URL=url)
    assert len(in_database(url, file)["salt"]) == 1
    assert run(*COPY, LEDGER_URL=url).returncode == 0
    assert in_database(url, file) == in_file(file)


@pytest.mark.anyio
async def test_while_a_server_has_the_file_open_nothing_is_copied(
    environment: dict[str, str], file: Path, url: str
) -> None:
    command = [*COMMAND, *COPY]
    async with Client(over_stdio(environment)) as client:
        await client.call_tool("list_videos", {})
        done = await anyio.run_process(command, env=environment | {"SORA_LEDGER_URL": url}, check=False)
        assert done.returncode == 3
        assert b"is in use" in done.stderr
        assert not in_database(url, file)["videos"]
    done = await anyio.run_process(command, env=environment | {"SORA_LEDGER_URL": url}, check=False)
    assert done.returncode == 0, done.stderr


_KILLED_WHILE_SENDING = """
import os, sys, anyio
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from ledger_copies import GATEWAY, KEY, intent
from sora_mcp.ledger import open_ledger
async def send():
    ledger = open_ledger(Path(sys.argv[1]))
    await ledger.begin(intent(await ledger.account(GATEWAY, KEY, "ann"), 55))
    os.kill(os.getpid(), 9)
anyio.run(send)
"""


def test_what_a_dead_server_was_sending_is_unknown_there(run: Run, file: Path, url: str) -> None:
    support = str(Path(__file__).parents[1] / "support")
    command = [sys.executable, "-c", _KILLED_WHILE_SENDING, str(file), support]
    subprocess.run(command, check=False, timeout=30)  # noqa: S603
    assert run(*COPY, LEDGER_URL=url).returncode == 0
    with psycopg.connect(url) as db:
        newest = db.execute("SELECT request_id, state FROM videos ORDER BY number DESC LIMIT 1").fetchone()
        assert newest is not None
        assert newest[1] == "unknown"
        states = db.execute("SELECT state FROM history WHERE request_id = %s ORDER BY number", [newest[0]]).fetchall()
    assert states == [("sending",), ("unknown",)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE videos SET progress = 'half' WHERE number = 3", "progress of row req_"),
        ("UPDATE videos SET misses = 2.5 WHERE number = 3", "a number where a whole number belongs"),
        ("UPDATE videos SET answer = 'a' || char(0) WHERE number = 3", "a text with a NUL"),
        ("UPDATE videos SET answer = CAST(x'ff' AS TEXT) WHERE number = 3", "a text that is not UTF-8"),
        ("UPDATE videos SET owner = NULL WHERE number = 3", "owner of row req_"),
        ("UPDATE history SET at = 'once' WHERE number = 2", "at of row 2 of the table history holds a text"),
        ("ALTER TABLE history ADD COLUMN mood TEXT", "the table history has a column mood"),
        ("UPDATE generations SET file = hex(randomblob(5000))", "does not take row req_"),
    ],
)
def test_what_postgresql_cannot_hold_is_told_with_its_row(file: Path, url: str, change: str, words: str) -> None:
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(change)
    with closing(sqlite3.connect(file)) as db:
        (request_id,) = db.execute("SELECT request_id FROM videos WHERE number = 3").fetchone()
    with pytest.raises(FileProblem) as refused:
        copy_ledger(file, Secret(url))
    assert words in refused.value.message
    assert "Nothing was copied." in refused.value.message
    if "UPDATE videos" in change:
        assert request_id in refused.value.message
    assert not in_database(url, file)["videos"]
    with closing(open_ledger(file)) as ledger:
        anyio.run(pay, ledger)


# --- interrupted ----------------------------------------------------------------------------------


def test_killed_at_any_moment_and_run_again_it_is_whole(
    environment: dict[str, str], file: Path, url: str, run: Run
) -> None:
    multiply(file, 2000)
    before = in_file(file)
    environ = environment | {"SORA_LEDGER_URL": url}
    began = time.monotonic()
    assert run("ledger", "copy", "--dry-run", LEDGER_URL=url).returncode == 0
    took, kills = time.monotonic() - began, 8
    for number in range(kills):
        with (
            subprocess.Popen([*COMMAND, *COPY], env=environ, stdout=subprocess.PIPE) as copying,  # noqa: S603
            killed_on_failure(copying),
        ):
            try:
                copying.wait(took * (number + 1) / kills)
            except subprocess.TimeoutExpired:
                copying.send_signal(signal.SIGKILL)
        rows = in_database(url, file)
        assert rows == before or not any(rows.values())
        if any(rows.values()):
            with closing(open_ledger(file)) as ledger, pytest.raises(FileProblem):
                anyio.run(ledger.check_can_begin)
    assert run(*COPY, LEDGER_URL=url).returncode == 0
    assert in_database(url, file) == before == in_file(file)


def hold_commit(url: str, what: str) -> None:
    """Have the commit of whoever writes a salt do that first."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            f"CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {what}; RETURN NULL; END'".encode()
        )
        db.execute(
            "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON salt DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION at_commit()"
        )


def end_the_copy(url: str, *, within_s: float = 30) -> None:
    """End the copy's connection while it waits at its commit."""
    sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    give_up_at = time.monotonic() + within_s
    with psycopg.connect(url, autocommit=True) as db:
        while not db.execute(sql).fetchone():
            assert time.monotonic() < give_up_at


@pytest.mark.parametrize("is_killed", [True, False])
def test_interrupted_at_its_last_word_neither_pays_until_it_is_run_again(
    environment: dict[str, str], file: Path, url: str, run: Run, is_killed: bool
) -> None:
    run("list", LEDGER_URL=url)  # makes the tables
    hold_commit(url, "PERFORM pg_sleep(60)")
    environ = environment | {"SORA_LEDGER_URL": url}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*COMMAND, *COPY], env=environ, text=True, **pipes) as copying, killed_on_failure(copying):  # type: ignore[call-overload]  # noqa: S603
        if is_killed:
            give_up_at = time.monotonic() + 30
            with psycopg.connect(url, autocommit=True) as db:
                while not db.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone():
                    assert time.monotonic() < give_up_at
            copying.kill()
        end_the_copy(url)
        _, said = copying.communicate(timeout=30)
    if not is_killed:
        assert "`sora-mcp ledger copy` resumes it" in said
    refused = run("create", "a boat")
    assert refused.returncode == 3
    assert "is being copied to PostgreSQL" in refused.stderr
    assert "`sora-mcp ledger copy` resumes it" in refused.stderr
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("DROP TRIGGER at_commit ON salt")
    assert run(*COPY, LEDGER_URL=url).returncode == 0
    assert in_database(url, file) == in_file(file)
    assert "was copied to PostgreSQL" in run("create", "a boat").stderr


def test_where_the_database_refuses_at_its_last_word_the_file_goes_on(run: Run, file: Path, url: str) -> None:
    run("list", LEDGER_URL=url)
    hold_commit(url, "RAISE EXCEPTION ''no''")
    done = run(*COPY, LEDGER_URL=url)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    with closing(open_ledger(file)) as ledger:
        anyio.run(pay, ledger)


def test_memory_does_not_grow_with_the_rows(environment: dict[str, str], file: Path, url: str) -> None:
    def peak_kib() -> int:
        program = (
            "import resource, sys; from sora_mcp.cli.commands import main\n"
            "try: main(sys.argv[1:])\n"
            "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        )
        command = [sys.executable, "-c", program, "ledger", "copy", "--dry-run"]
        environ = environment | {"SORA_LEDGER_URL": url}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ, timeout=100)  # noqa: S603
        return int(done.stderr.split()[-1])

    few = peak_kib()
    multiply(file, 10_000)
    assert peak_kib() < few + 20 * 1024
    assert set(TABLES) == set(in_file(file))
