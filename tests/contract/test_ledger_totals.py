"""What videos add up to is what they are, one by one, whatever was recorded of them."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from ledgers import BEFORE_TOTALS_WERE_KEPT, BODY, OpenLedger

from sora_mcp.core.cost import Cost, total
from sora_mcp.core.records import AbandonedTask
from sora_mcp.core.tasks import State, Task
from sora_mcp.ledger import Account, Entry, Intent, Ledger, open_ledger

pytestmark = pytest.mark.anyio

ACCOUNTS = (Account("g", "a"), Account("g", "b"), Account("h", "a"), Account("g", "a", "anna"))
COSTS = (None, Cost.of(1.25), Cost.of(0.1), Cost.of("0.123456789", "USD"), Cost.of(2, "EUR"), Cost.of(0, "USD"))
SAID: tuple[State, ...] = ("queued", "running", "succeeded", "failed", "blocked")


class Anything:
    """Whatever can be recorded of a video, at random."""

    def __init__(self, ledgers: list[Ledger], seed: int) -> None:
        self._ledgers = ledgers
        self._random = random.Random(seed)  # noqa: S311 - so that a failure can be repeated
        self._entries: list[Entry] = []
        self._number = 0

    async def happens(self) -> None:
        ledger, account = self._random.choice(self._ledgers), self._random.choice(ACCOUNTS)
        self._number += 1
        if len(self._entries) < 5 or self._random.random() < 0.3:
            cost = self._random.choice(COSTS)
            entry, _ = await ledger.begin(Intent(account, "simple_compose", BODY, f"{self._number}", [], cost))
            self._entries.append(entry)
            return
        entry = self._random.choice(self._entries)
        task_id = entry.task_id or f"task_{self._number}"
        match self._random.randrange(7):
            case 0:  # a query was faster than the answer: the two are merged
                await ledger.adopt(entry.account, task_id, Task("running", cost=self._random.choice(COSTS)))
                await ledger.record_accepted(entry.request_id, task_id)
            case 1:
                await ledger.record_accepted(entry.request_id, task_id)
            case 2:
                await ledger.record_not_accepted(entry.request_id, self._random.choice(("rejected", "unknown")), "no")
            case 3:
                await ledger.settle(entry.account, entry.request_id, self._random.choice((task_id, None)))
            case 4 if entry.task_id is not None:
                await ledger.settle(
                    entry.account, entry.request_id, None, given_up=AbandonedTask(entry.task_id, "gone")
                )
            case _:
                task = Task(self._random.choice(SAID), cost=self._random.choice(COSTS))
                await ledger.record(entry, task)
        newest = await ledger.find(entry.account, entry.request_id)
        assert newest is not None
        self._entries[self._entries.index(entry)] = newest


async def is_added_up(ledger: Ledger) -> None:
    """Compare totals with what is added up here."""
    entries = {account: await ledger.page(account, limit=10_000) for account in ACCOUNTS}
    for account, own in entries.items():
        totals = await ledger.totals(account)
        counted = [entry for entry in own if entry.state not in {"rejected", "unknown"}]
        assert dict(totals.counts) == Counter(entry.state for entry in own)
        assert _sum(totals.cost) == _sum(entry.best_cost for entry in counted)
        assert _sum(totals.uncertain) == _sum(entry.best_cost for entry in own if entry.state == "unknown")
        assert totals.unpriced == sum(entry.best_cost is None for entry in own if entry.state != "rejected")
        others = {each: len(rows) for each, rows in entries.items() if each.owner == account.owner and rows}
        assert dict(totals.other_accounts) == {each: rows for each, rows in others.items() if each != account}
    assert await ledger.states() == Counter(entry.state for own in entries.values() for entry in own)


def _sum(costs: object) -> dict[str, int]:
    sums = total(cost for cost in costs if cost is not None)  # type: ignore[attr-defined]
    return {str(cost.unit): cost.billionths for cost in sums if cost.billionths}


@pytest.mark.parametrize("seed", [1, 2])
async def test_totals_are_what_the_rows_add_up_to(open_ledger: OpenLedger, seed: int) -> None:
    ledgers = [open_ledger(), open_ledger()]
    anything = Anything(ledgers, seed)
    for number in range(120):
        await anything.happens()
        if number % 40 == 39:
            await is_added_up(ledgers[number % 2])


async def test_totals_hold_while_servers_write_at_once(open_ledger: OpenLedger) -> None:
    everybody = [Anything([open_ledger()], seed) for seed in range(4)]

    async def work(anything: Anything) -> None:
        for _ in range(40):
            await anything.happens()

    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            for each in everybody:
                group.start_soon(work, each)
    await is_added_up(open_ledger())


async def test_a_file_of_an_earlier_release_is_added_up(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as older:
        anything = Anything([older], 3)
        for _ in range(60):
            await anything.happens()
        sending, _ = await older.begin(Intent(ACCOUNTS[0], "simple_compose", BODY, "sent meanwhile", [], Cost.of(1.25)))
        with closing(sqlite3.connect(path)) as db:
            db.executescript(BEFORE_TOTALS_WERE_KEPT)
        with closing(open_ledger(path)) as ledger:
            await is_added_up(ledger)  # while the older release sends, its file stays as it is
        await older.record_accepted(sending.request_id, "task_sent_meanwhile")
    with closing(open_ledger(path)) as ledger:
        await is_added_up(ledger)
        await Anything([ledger], 4).happens()
        await is_added_up(ledger)


@pytest.mark.parametrize(
    "change",
    ["state = 'failed'", "cost = 0.7", "owner = 'bob', gateway = 'g#a@bob'", "merged_into = 'req_1'", "state = 'odd'"],
)
async def test_totals_know_what_another_program_changes(tmp_path: Path, change: str) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger:
        for number in range(3):
            await ledger.begin(Intent(ACCOUNTS[0], "simple_compose", BODY, f"{number}", [], Cost.of(1.25)))
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(f"UPDATE videos SET {change} WHERE number = 2")  # noqa: S608 - our own text
            db.execute("DELETE FROM videos WHERE number = 1")
            expected = db.execute(
                "SELECT count(*), sum(cost) FROM videos WHERE gateway = 'g#a' AND merged_into IS NULL"
            ).fetchone()
        totals = await ledger.totals(ACCOUNTS[0])
        assert sum(totals.counts.values()) == expected[0]
        assert sum(cost.amount for cost in (*totals.cost, *totals.uncertain)) == expected[1]


ODD = ("NULL", "''", "'x'", "-1", "1.5", "1e308", "9e999", "'9e999'", "'-9e999'", "9223372036854775807", "x'ff'")


@pytest.mark.parametrize("column", ["cost", "estimate", "stated", "currency", "stated_currency", "owner", "address"])
async def test_nothing_in_a_row_keeps_it_from_being_written(tmp_path: Path, column: str) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger:
        for number in range(2):
            await ledger.begin(Intent(ACCOUNTS[0], "simple_compose", BODY, f"{number}", [], Cost.of(1.25)))
        before = await ledger.totals(ACCOUNTS[0])
        with closing(sqlite3.connect(path)) as db, db:
            (usual,) = db.execute(f"SELECT quote({column}) FROM videos WHERE number = 2").fetchone()  # noqa: S608
            for value in (*ODD, usual):
                db.execute(f"UPDATE videos SET {column} = {value}")  # noqa: S608 - our own text
                db.execute("UPDATE videos SET state = 'unknown'")
                db.execute("UPDATE videos SET state = 'sending'")
                assert db.execute("SELECT sum(videos) FROM video_counts").fetchone() == (2,)
        assert await ledger.totals(ACCOUNTS[0]) == before
