"""What was spent, in groups: the same sums as everywhere, apart by unit, and unknown outcomes apart."""

from __future__ import annotations

import time

import pytest
from ledgers import BODY, G, OpenLedger
from msgspec.structs import replace

from sora_mcp.core.accounts import Account
from sora_mcp.core.cost import Cost
from sora_mcp.core.records import Usage
from sora_mcp.core.tasks import Task
from sora_mcp.ledger import Intent, Ledger

pytestmark = pytest.mark.anyio

DAY_S = 86_400
NOON = time.mktime((2026, 3, 10, 12, 0, 0, 0, 0, -1))
"""In the time zone of this machine."""
MADE = Intent(G, "simple_compose", BODY, "same", [], Cost.of(1.25))
USD = Cost.of("0.5", "USD")


async def make(ledger: Ledger, task_id: str, stated: Cost | None = None, **parts: object) -> None:
    entry, _ = await ledger.begin(replace(MADE, **parts))
    taken = await ledger.record_accepted(entry.request_id, task_id)
    await ledger.record(taken, Task("succeeded", cost=stated))


async def come_to(ledger: Ledger, state: str) -> None:
    entry, _ = await ledger.begin(MADE)
    await ledger.record_not_accepted(entry.request_id, state, "")  # type: ignore[arg-type]


def shown(usage: list[Usage]) -> dict[tuple[str | None, ...], list[str]]:
    return {each.group: [f"{each.videos}", *map(repr, each.spent)] for each in usage}


async def test_days_are_those_of_this_machine_and_older_ones_are_left_out(open_ledger: OpenLedger) -> None:
    now = NOON
    ledger = open_ledger(lambda: now)
    for number, hours in enumerate((0, 11.9, 12.1, 36.5)):
        now = NOON + hours * 3600
        await make(ledger, f"task_{number}")
    assert shown(await ledger.usage("", ("day",), NOON - 1)) == {
        ("2026-03-10",): ["2", repr(Cost.of(2.5))],
        ("2026-03-11",): ["1", repr(Cost.of(1.25))],
        ("2026-03-12",): ["1", repr(Cost.of(1.25))],
    }
    assert len(await ledger.usage("", ("day",), NOON + DAY_S)) == 1


async def test_units_stand_apart_and_the_gateways_own_figures_count(ledger: Ledger) -> None:
    await make(ledger, "task_1")
    await make(ledger, "task_2", cost=USD)
    await make(ledger, "task_3", Cost.of("0.7", "USD"), cost=USD)
    await make(ledger, "task_4", Cost.of("2", "EUR"))
    await make(ledger, "task_5", cost=None)
    (usage,) = await ledger.usage("", ("address",), 0)
    assert set(usage.spent) == {Cost.of(1.25), Cost.of("1.2", "USD"), Cost.of(2, "EUR")}
    assert (usage.group, usage.videos, usage.unpriced) == (("g",), 5, 1)
    assert set(usage.spent) == set((await ledger.totals(G)).cost)


async def test_unknown_outcomes_stand_apart_and_refusals_cost_nothing(ledger: Ledger) -> None:
    await make(ledger, "task_1")
    await come_to(ledger, "unknown")
    await come_to(ledger, "rejected")
    (usage,) = await ledger.usage("", ("address",), 0)
    assert (usage.videos, usage.spent, usage.unknown, usage.uncertain) == (1, (Cost.of(1.25),), 1, (Cost.of(1.25),))


async def test_gateways_keys_and_operations_of_one_owner_and_of_no_other(ledger: Ledger) -> None:
    await make(ledger, "task_1")
    await make(ledger, "task_2", account=Account("g", "another key"), operation="remix")
    await make(ledger, "task_3", account=Account("h"))
    await make(ledger, "task_4", account=Account("g", owner="ann"))
    assert {each.group: each.videos for each in await ledger.usage("", ("address", "operation"), 0)} == {
        ("g", "simple_compose"): 1,
        ("g", "remix"): 1,
        ("h", "simple_compose"): 1,
    }
    assert {each.group: each.videos for each in await ledger.usage("ann", ("address",), 0)} == {("g",): 1}
    assert await ledger.usage("zoe", ("day",), 0) == []
