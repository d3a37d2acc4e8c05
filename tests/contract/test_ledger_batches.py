"""Lines of a batch file in the ledger: each is kept with its request, and is never sent twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from ledgers import BODY, GUARDED, G, OpenLedger
from msgspec.structs import replace

from sora_mcp.core.accounts import Account
from sora_mcp.core.batches import BatchLine, digest_of, key_of_name, keys_of_unnamed
from sora_mcp.core.caps import TooManyRunning
from sora_mcp.core.cost import Cost
from sora_mcp.core.tasks import State, Task
from sora_mcp.ledger import Entry, Intent, Ledger, SpendingPolicy, open_ledger

pytestmark = pytest.mark.anyio

FOX = Intent(G, "simple_compose", BODY, "same", [], Cost.of(1.25))
ONE, TWO = (BatchLine("film.jsonl", f"line:{n}", "d", keys=frozenset({"line:1", "line:2"})) for n in (1, 2))


def of(line: BatchLine, account: Account = G) -> Intent:
    return replace(FOX, line=line, account=account)


async def end(ledger: Ledger, entry: Entry, state: State) -> None:
    if state == "unknown":
        await ledger.record_not_accepted(entry.request_id, "unknown", "the connection broke")
    elif state == "rejected":
        await ledger.record_not_accepted(entry.request_id, "rejected", "no")
    elif state != "sending":
        taken = await ledger.record_accepted(entry.request_id, f"task_{entry.number}")
        await ledger.record(taken, Task(state))


@pytest.mark.parametrize("state", ["sending", "unknown", "queued", "succeeded"])
async def test_a_line_that_may_have_been_made_is_never_begun_again_however_old(
    open_ledger: OpenLedger, state: State
) -> None:
    now = 1000.0
    ledger = open_ledger(lambda: now)
    first, is_new = await ledger.begin(of(ONE), GUARDED)
    assert is_new
    await end(ledger, first, state)
    now += 10**8
    for line in (ONE, replace(ONE, after=first.request_id), replace(ONE, digest="edited")):
        again, is_new = await ledger.begin(of(line))
        assert (again.request_id, is_new) == (first.request_id, False)
    known = (await ledger.lines(G, [ONE.key, TWO.key]))[ONE.key]
    assert (known.entry.request_id, known.entry.state, known.digest) == (first.request_id, state, "d")


@pytest.mark.parametrize("state", ["rejected", "failed", "blocked", "lost"])
async def test_a_line_that_came_to_nothing_is_begun_again_once_after_that_very_request(
    ledger: Ledger, state: State
) -> None:
    first, _ = await ledger.begin(of(ONE), GUARDED)
    await end(ledger, first, state)
    again, is_new = await ledger.begin(of(ONE), GUARDED)
    assert (again.request_id, is_new) == (first.request_id, False)
    second, is_new = await ledger.begin(of(replace(ONE, after=first.request_id)), GUARDED)
    assert is_new
    await end(ledger, second, "rejected")
    late, is_new = await ledger.begin(of(replace(ONE, after=first.request_id)), GUARDED)
    assert (late.request_id, is_new) == (second.request_id, False)


async def test_equal_lines_of_a_file_are_intents_of_their_own_and_all_else_of_it_is_a_duplicate(ledger: Ledger) -> None:
    outside, _ = await ledger.begin(FOX, GUARDED)
    first, is_new = await ledger.begin(of(ONE), GUARDED)
    assert (first.request_id, is_new) == (outside.request_id, False)
    second, is_new = await ledger.begin(of(TWO), GUARDED)
    assert is_new
    assert (await ledger.lines(G, [ONE.key]))[ONE.key].entry.request_id == outside.request_id
    assert not (await ledger.begin(FOX, GUARDED))[1]
    keys = frozenset({"name:1", "name:2", "name:3"})
    for file in ("film.jsonl", "renamed.jsonl"):
        lines = [BatchLine(file, f"name:{n}", "d", keys=keys) for n in (1, 2, 3)]
        begun = [await ledger.begin(of(line), GUARDED) for line in lines]
        assert {entry.request_id for entry, _ in begun[:2]} == {outside.request_id, second.request_id}
        assert begun[2][1] == (file == "film.jsonl")


async def test_a_look_beforehand_keeps_no_line_and_a_refusal_neither(ledger: Ledger) -> None:
    assert (await ledger.find_earlier(of(ONE), GUARDED)).duplicate is None
    assert await ledger.lines(G, [ONE.key]) == {}
    first, _ = await ledger.begin(of(ONE), SpendingPolicy(60, running=1))
    assert (await ledger.find_earlier(of(ONE), GUARDED)).duplicate == first
    with pytest.raises(TooManyRunning):
        await ledger.begin(of(TWO), SpendingPolicy(60, running=1))
    assert set(await ledger.lines(G, [ONE.key, TWO.key])) == {ONE.key}


async def test_a_line_is_known_whatever_key_and_apart_by_owner_and_gateway(ledger: Ledger) -> None:
    first, _ = await ledger.begin(of(ONE), GUARDED)
    assert (await ledger.begin(of(ONE, Account("g", "another key")), GUARDED))[0].request_id == first.request_id
    for other in (Account("h"), Account("g", owner="ann")):
        assert await ledger.lines(other, [ONE.key]) == {}
        assert (await ledger.begin(of(ONE, other), GUARDED))[1]


async def test_of_many_processes_that_begin_the_same_lines_one_begins_each(open_ledger: OpenLedger) -> None:
    begun: list[tuple[str, bool]] = []

    async def one(ledger: Ledger) -> None:
        for line in (ONE, TWO):
            entry, is_new = await ledger.begin(of(line), GUARDED)
            begun.append((entry.request_id, is_new))

    async with anyio.create_task_group() as processes:
        for _ in range(8):
            processes.start_soon(one, open_ledger())
    assert len({request_id for request_id, _ in begun}) == 2
    assert sum(is_new for _, is_new in begun) == 2


async def test_a_file_of_an_earlier_release_gets_the_lines_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger:
        first, _ = await ledger.begin(FOX, GUARDED)
        await end(ledger, first, "succeeded")
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE batch_lines; PRAGMA user_version = 7;")
    with closing(open_ledger(path)) as ledger:
        assert await ledger.lines(G, [ONE.key]) == {}
        entry, is_new = await ledger.begin(of(ONE), GUARDED)
        assert (entry.request_id, is_new) == (first.request_id, False)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 7")  # taken back, with the table in it
    with closing(open_ledger(path)) as ledger:
        assert set(await ledger.lines(G, [ONE.key])) == {ONE.key}


def test_a_line_is_known_by_what_it_says_and_not_by_how_it_is_written() -> None:
    digest = digest_of("create_video", {"prompt": "fox", "width": 480})
    assert digest == digest_of("create_video", {"width": 480, "prompt": "fox"})
    assert digest != digest_of("create_video", {"prompt": "Fox", "width": 480})
    keys = keys_of_unnamed("a.jsonl", [digest, digest, "other"])
    assert len({*keys, *keys_of_unnamed("b.jsonl", [digest]), key_of_name(keys[0])}) == 5


async def test_while_an_older_release_is_sending_no_line_is_known_and_all_else_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as older:
        await older.begin(FOX, GUARDED)
        with closing(sqlite3.connect(path)) as db:
            db.executescript("DROP TABLE batch_lines; PRAGMA user_version = 7;")
        with closing(open_ledger(path)) as ledger:
            assert await ledger.lines(G, [ONE.key]) == {}
            assert (await ledger.find_earlier(of(ONE), GUARDED)).duplicate is not None
            assert [entry.state for entry in await ledger.page(G, limit=9)] == ["sending"]
