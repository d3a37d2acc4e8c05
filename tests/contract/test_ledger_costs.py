"""Costs in the ledger: exact, each unit apart, and the gateway's own figure before the estimate."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
from ledgers import BEFORE_TOTALS_WERE_KEPT, BODY, OpenLedger, row

from sora_mcp.core.caps import CostsNotKnown, OverDailyCap
from sora_mcp.core.cost import RELATIVE, Cost, sum_in_unit, total
from sora_mcp.core.spending import WINDOW_S
from sora_mcp.core.tasks import FINAL, Generation, State, Task
from sora_mcp.ledger import Account, Entry, Intent, Ledger, SpendingPolicy, open_ledger

pytestmark = pytest.mark.anyio

G = Account("g")
STATES: tuple[State, ...] = get_args(State)


def usd(amount: object) -> Cost:
    return Cost.of(amount, "USD")


async def make(ledger: Ledger, cost: Cost | None, task_id: str | None = None, **policy: Cost) -> Entry:
    """An entry that is being sent, or one that was accepted."""
    caps = SpendingPolicy(unit="USD", **policy)  # type: ignore[arg-type]
    entry, _ = await ledger.begin(Intent(G, "simple_compose", BODY, "same", [], cost), caps)
    return entry if task_id is None else await ledger.record_accepted(entry.request_id, task_id)


@pytest.mark.parametrize("cost", [usd("0.1"), usd("0.123456789"), usd(1_000_000), Cost.of(1.25), usd(0), None])
async def test_a_cost_comes_back_as_it_was_written(open_ledger: OpenLedger, cost: Cost | None) -> None:
    entry = await make(open_ledger(), cost)
    assert (entry.cost, entry.stated, entry.best_cost) == (cost, None, cost)
    assert (await row(open_ledger(), entry.request_id)).cost == cost


@pytest.mark.parametrize("state", [state for state in STATES if state not in {"sending", "rejected", "unknown"}])
async def test_what_a_gateway_states_counts_once_the_task_has_ended(ledger: Ledger, state: State) -> None:
    entry = await make(ledger, usd("0.5"), "task_1")
    entry = await ledger.record(entry, Task(state, cost=usd("0.3")))
    assert entry.stated == (usd("0.3") if state in FINAL else None)
    assert sum_in_unit((await ledger.spending(G)).spent, "USD") == sum_in_unit((await ledger.totals(G)).cost, "USD")
    assert sum_in_unit((await ledger.spending(G)).spent, "USD") == entry.best_cost


async def test_a_later_figure_wins_and_a_reply_without_one_changes_nothing(ledger: Ledger) -> None:
    entry = await make(ledger, usd("0.5"), "task_1")
    stated = []
    for cost in (usd("0.3"), None, usd(0), None, Cost.of(7)):
        entry = await ledger.record(entry, Task("succeeded", cost=cost))
        stated.append(entry.stated)
    assert stated == [usd("0.3"), usd("0.3"), usd(0), usd(0), usd(0)]
    assert entry.cost == usd("0.5")


async def test_a_figure_may_be_in_another_currency_than_the_estimate(ledger: Ledger) -> None:
    entry = await make(ledger, usd("0.5"), "task_1")
    await ledger.record(entry, Task("succeeded", cost=Cost.of("0.4", "EUR")))
    spending, totals = await ledger.spending(G), await ledger.totals(G)
    assert spending.spent == totals.cost[1:] == (Cost.of("0.4", "EUR"),)
    assert spending.priced == {"EUR": 1}


async def test_a_figure_of_a_relative_request_takes_its_place(ledger: Ledger) -> None:
    await ledger.record(await make(ledger, Cost.of(1.25), "task_1"), Task("succeeded", cost=usd("0.4")))
    await make(ledger, Cost.of(3), "task_2")
    totals = await ledger.totals(G)
    assert set(totals.cost) == {Cost.of(3), usd("0.4")} == set((await ledger.spending(G)).spent)
    assert totals.unpriced == 0


async def test_a_task_that_was_adopted_first_states_its_cost_once(ledger: Ledger) -> None:
    entry = await make(ledger, usd("0.5"))
    await ledger.adopt(G, "task_1", Task("succeeded", cost=usd("0.3")))
    assert sum_in_unit((await ledger.spending(G)).spent, "USD") == usd("0.8")
    entry = await ledger.record_accepted(entry.request_id, "task_1")
    assert entry.stated == usd("0.3")
    spending = await ledger.spending(G)
    assert (spending.spent, spending.calls, spending.priced) == ((usd("0.3"),), 1, {"USD": 1})
    assert sum_in_unit((await ledger.totals(G)).cost, "USD") == usd("0.3")


async def test_what_was_made_elsewhere_counts_with_its_figure_and_stops_no_cap_without_one(ledger: Ledger) -> None:
    await ledger.adopt(G, "task_1", Task("running"))
    await ledger.adopt(G, "task_2", Task("succeeded", cost=usd(4)))
    await make(ledger, usd(1), per_day=usd(5))
    with pytest.raises(OverDailyCap):
        await make(ledger, usd("0.01"), per_day=usd(5))


@pytest.mark.parametrize("cost", [None, usd(0), Cost.of(1.25), Cost.of(1, "EUR")])
async def test_a_days_cap_refuses_while_a_cost_of_the_day_is_not_known_in_its_currency(
    open_ledger: OpenLedger, cost: Cost | None
) -> None:
    now = [1e9]
    ledger = open_ledger(lambda: now[0])
    entry = await make(ledger, cost, "task_1")
    with pytest.raises(CostsNotKnown, match="1 video"):
        await make(ledger, usd(1), per_day=usd(5))
    await ledger.record(entry, Task("succeeded", cost=usd(4)))
    await make(ledger, usd(1), per_day=usd(5))
    with pytest.raises(OverDailyCap):
        await make(ledger, usd(1), per_day=usd(5))
    await make(ledger, cost)
    now[0] += WINDOW_S + 1
    await make(ledger, usd(1), per_day=usd(1))


async def test_a_rejected_request_of_unknown_cost_stops_nothing(ledger: Ledger) -> None:
    await ledger.record_not_accepted((await make(ledger, None)).request_id, "rejected", "no")
    await make(ledger, usd(5), per_day=usd(5))


async def test_the_days_sums_are_exact_in_every_unit(ledger: Ledger) -> None:
    choice = random.Random(15)  # noqa: S311 - always the same
    costs = [Cost.of(choice.choice(["0.1", "0.7", "1.25"]), choice.choice(["USD", "EUR", RELATIVE])) for _ in range(90)]
    stated = []
    for number, cost in enumerate(costs):
        entry = await make(ledger, cost, f"task_{number}")
        if not cost.is_relative and choice.randrange(2):
            stated.append(Cost.of("0.3", cost.unit))
            await ledger.record(entry, Task("succeeded", cost=stated[-1]))
        else:
            stated.append(cost)
    spending, totals = await ledger.spending(G), await ledger.totals(G)
    assert set(spending.spent) == set(totals.cost) == set(total(stated))
    assert sum(spending.priced.values()) == spending.calls == 90


BEFORE_COSTS_HAD_UNITS = f"""
    {BEFORE_TOTALS_WERE_KEPT}
    DROP INDEX videos_sent;
    ALTER TABLE videos DROP COLUMN sent_fingerprint;
    ALTER TABLE videos DROP COLUMN estimate;
    ALTER TABLE videos DROP COLUMN currency;
    ALTER TABLE videos DROP COLUMN stated;
    ALTER TABLE videos DROP COLUMN stated_currency;
    PRAGMA user_version = 6;
"""


async def test_costs_in_a_file_of_an_earlier_release_are_relative(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger:
        await make(ledger, Cost.of(1.25), "task_1")
    with closing(sqlite3.connect(path)) as db:
        db.executescript(BEFORE_COSTS_HAD_UNITS)
    with closing(open_ledger(path)) as ledger:
        assert [entry.cost for entry in await ledger.page(G, limit=9)] == [Cost.of(1.25)]
        await make(ledger, usd("0.5"), "task_2")
        assert set((await ledger.totals(G)).cost) == {Cost.of(1.25), usd("0.5")}


async def test_an_earlier_release_takes_money_for_a_cost_that_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger:
        await make(ledger, usd("0.5"), "task_1")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT cost FROM videos").fetchall() == [(None,)]


@pytest.mark.parametrize(
    "change",
    ["estimate = 'much'", "estimate = -1", "currency = NULL", "stated = 1", "stated = 1.5, stated_currency = 7"],
)
async def test_a_cost_that_somebody_else_has_changed_is_damage(tmp_path: Path, change: str) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger:
        await make(ledger, usd("0.5"), "task_1")
        await make(ledger, usd("0.5"), "task_2")
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"UPDATE videos SET {change} WHERE task_id = 'task_1'")  # noqa: S608 - our own text
            db.commit()
        entries = await ledger.page(G, limit=9)
        assert [entry.is_damaged for entry in entries] == [False, True]
        assert await ledger.totals(G)
        assert await ledger.spending(G)


async def test_a_list_sees_each_change_of_a_row_that_it_has_read_before(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger, closing(sqlite3.connect(path)) as db:
        entry = await make(ledger, usd("0.5"), "task_1")
        await ledger.record(entry, Task("succeeded", generations=(Generation(1, "gen_1", "https://a.example/1"),)))
        (before,) = await ledger.page(G, limit=9)
        for change, is_damaged in (("progress = 'half'", True), ("progress = 50", False), ("estimate = 5.5", True)):
            db.execute(f"UPDATE videos SET {change}")  # noqa: S608 - our own text
            db.commit()
            assert [each.is_damaged for each in await ledger.page(G, limit=9)] == [is_damaged]
        db.execute("UPDATE videos SET estimate = 500000000")
        db.execute("UPDATE generations SET url = 'https://a.example/2'")
        db.commit()
        (after,) = await ledger.page(G, limit=9)
        assert (before.progress, before.generations[0].url) == (None, "https://a.example/1")
        assert (after.progress, after.generations[0].url) == (50, "https://a.example/2")
