"""What a ledger promises to whoever looks back: a search in what was asked for, sums, and how long videos took."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from ledgers import BODY, G, OpenLedger, row

from sora_mcp.core.cost import Cost, Costs, total
from sora_mcp.core.tasks import State, Task
from sora_mcp.ledger import Account, Entry, Intent, Ledger

pytestmark = pytest.mark.anyio


A_COST = Cost.of(1.25)
RELATIVE_COSTS = [Cost.of(1), A_COST, Cost.of(6), None]
MONEY = [Cost.of("0.1", "USD"), Cost.of("0.123456789", "USD"), Cost.of(2, "EUR")]


async def make(ledger: Ledger, account: Account = G, cost: Cost | None = A_COST, **body: Any) -> Entry:
    """An entry that is being sent."""
    return (await ledger.begin(Intent(account, "simple_compose", BODY | body, "same", [], cost)))[0]


async def prompts(ledger: Ledger, text: str, **options: Any) -> list[str]:
    """The prompts that a search finds, newest first."""
    return [entry.body["prompt"] for entry in (await ledger.search(G, text, limit=10, **options))[0]]


# --- searching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("FOX", "A red fox"),
        ("red  fox", "A red\nfox"),
        ("100%", "100% wool"),
        ("_", "snake_case"),
        ("*", "five * stars"),
        ("a%c", "a%c"),
        ("\\", "a back\\slash"),
        ("'; DROP TABLE videos; --", "'; drop table videos; --"),
        ("STRASSE", "die Straße"),
        ("狐狸", "一只狐狸穿过结冰的湖"),
        ("é", "cafe\u0301"),
        ('"', 'a "quoted" word'),
    ],
    ids=str,
)
async def test_a_search_finds_a_text_as_it_is_written_in_any_case(ledger: Ledger, text: str, prompt: str) -> None:
    await make(ledger, prompt="nothing of the kind: abc, 100 wool")
    await make(ledger, prompt=prompt)
    assert await prompts(ledger, text) == [prompt]


@pytest.mark.parametrize("text", ["%", "_", "*", "?", "[a-z]", ".", "prompt", "width", "fly%", "x" * 10_000])
async def test_no_character_of_a_search_stands_for_others_and_names_of_fields_are_not_searched(
    ledger: Ledger, text: str
) -> None:
    await make(ledger)
    assert await ledger.search(G, text, limit=10) == ([], None)


async def test_a_search_looks_into_beats(ledger: Ledger) -> None:
    actions = [{"time": 0, "description": "A kettle boils"}, {"time": 60, "description": "a cat wakes up"}]
    await make(ledger, prompt="breakfast", actions=actions)
    await make(ledger, prompt="dinner", actions=[{"time": 0}, {"description": 7}, "cat", None])
    await make(ledger, prompt="supper", actions={"0": "cat"})
    assert await prompts(ledger, "cat WAKES") == ["breakfast"]


async def test_a_search_keeps_to_the_account_and_the_state_and_is_read_page_by_page(ledger: Ledger) -> None:
    await make(ledger, Account("other"), prompt="fox of another")
    for number in range(5):
        entry = await make(ledger, prompt=f"fox {number}")
        await make(ledger, prompt="hare")
        if number % 2:
            await ledger.record_not_accepted(entry.request_id, "rejected", "x")
    assert await prompts(ledger, "fox", states=("rejected",)) == ["fox 3", "fox 1"]
    seen: list[str] = []
    before: str | None = None
    while True:
        page, before = await ledger.search(G, "fox", limit=2, before=before)
        seen += [entry.body["prompt"] for entry in page]
        if before is None:
            break
    assert seen == [f"fox {number}" for number in (4, 3, 2, 1, 0)]


async def test_a_search_of_more_entries_than_it_may_look_at_says_where_it_stopped(ledger: Ledger) -> None:
    await make(ledger, prompt="fox")
    for _ in range(5):
        await make(ledger)
    page, before = await ledger.search(G, "fox", limit=10, max_searched=3)
    assert page == []
    assert before is not None
    page, before = await ledger.search(G, "fox", limit=10, before=before, max_searched=3)
    assert [entry.body["prompt"] for entry in page] == ["fox"]
    assert before is None


async def test_a_search_that_takes_too_long_says_where_it_stopped(ledger: Ledger) -> None:
    for number in range(3):
        await make(ledger, prompt=f"fox {number}")
        await make(ledger)
    seen: list[str] = []
    calls, before = 0, None
    while calls == 0 or before is not None:
        page, before = await ledger.search(G, "fox", limit=10, before=before, timeout_s=0)
        seen += [entry.body["prompt"] for entry in page]
        calls += 1
    assert seen == ["fox 2", "fox 1", "fox 0"]
    assert calls == 6  # one that has no time at all gets on by an entry


async def test_a_search_that_finds_just_as_many_as_it_may_has_no_more(ledger: Ledger) -> None:
    for number in range(2):
        await make(ledger, prompt=f"fox {number}")
    await make(ledger)
    page, before = await ledger.search(G, "fox", limit=2)
    assert ([entry.body["prompt"] for entry in page], before) == (["fox 1", "fox 0"], None)


async def test_a_paid_call_does_not_wait_for_a_search(ledger: Ledger) -> None:
    for _ in range(12):
        await make(ledger, prompt="é" * 9_000, actions=[{"time": t, "description": "ǅ日" * 100_000} for t in (0, 60)])
    ends: list[str] = []

    async def search() -> None:
        await ledger.search(G, "nothing of the kind: é", limit=10)
        ends.append("search")

    async with anyio.create_task_group() as calls:
        calls.start_soon(search)
        await anyio.lowlevel.checkpoint()
        await make(ledger)
        ends.append("paid")
    assert ends == ["paid", "search"]


# --- sums -----------------------------------------------------------------------------------------


def amounts(costs: Costs) -> dict[str, int]:
    return {cost.unit: cost.billionths for cost in costs if cost.billionths}


def added_up(entries: list[Entry]) -> Mapping[str, int]:
    return Counter(entry.state for entry in entries)


async def test_the_totals_are_the_sums_of_the_entries_whatever_becomes_of_them(ledger: Ledger) -> None:
    choice = random.Random(13)  # noqa: S311 - always the same
    ends: tuple[State, ...] = ("succeeded", "failed", "blocked", "running")
    for number in range(60):
        entry = await make(ledger, cost=choice.choice([*RELATIVE_COSTS, *MONEY]))
        match choice.randrange(6):
            case 0:
                await ledger.record_not_accepted(entry.request_id, "rejected", "x")
            case 1:
                await ledger.record_not_accepted(entry.request_id, "unknown", "x")
            case 2:
                await ledger.record_not_accepted(entry.request_id, "unknown", "x")
                await ledger.settle(G, entry.request_id, choice.choice([f"task_{number}", None]))
            case 3:  # adopted first, then merged into the request that made it
                await ledger.adopt(G, f"task_{number}", Task("running"))
                await ledger.record_accepted(entry.request_id, f"task_{number}")
            case _:
                await ledger.record_accepted(entry.request_id, f"task_{number}")
                steps: tuple[State, ...] = ("queued", "running", choice.choice(ends))
                for state in steps:
                    stated = choice.choice([None, *MONEY])
                    await ledger.record(await row(ledger, entry.request_id), Task(state, cost=stated))
    entries, totals = await ledger.page(G, limit=100), await ledger.totals(G)
    assert totals.counts == added_up(entries)
    spent = [entry for entry in entries if entry.state not in {"rejected", "unknown"}]
    assert amounts(totals.cost) == amounts(total(filter(None, (entry.best_cost for entry in spent))))
    unknown = [entry for entry in entries if entry.state == "unknown"]
    assert amounts(totals.uncertain) == amounts(total(filter(None, (entry.best_cost for entry in unknown))))
    assert totals.unpriced == sum(entry.best_cost is None for entry in entries if entry.state != "rejected")
    assert {entry.stated for entry in entries if entry.state == "running"} == {None}


async def test_what_stands_elsewhere_is_counted_for_the_same_owner_only(ledger: Ledger) -> None:
    accounts = [Account("g", "key", "zoe"), Account("g", "key 2", "zoe"), Account("h", "key", "zoe")]
    for account in (*accounts, accounts[2], Account("h", "key"), Account("h", "key", "ann")):
        await make(ledger, account)
    first = await ledger.totals(accounts[0])
    assert first.counts == {"sending": 1}
    assert first.other_accounts == {accounts[1]: 1, accounts[2]: 2}
    assert (await ledger.totals(Account("nowhere", "key", "zoe"))).counts == {}
    assert (await ledger.totals(Account("nowhere", "key", "bob"))).other_accounts == {}


# --- how long they took ---------------------------------------------------------------------------


async def test_how_long_the_newest_videos_took_is_known(open_ledger: OpenLedger) -> None:
    now = 1_000_000.0
    ledger = open_ledger(lambda: now)
    for seconds in (10, 20, 30, None, 40):
        request_id = (await make(ledger)).request_id
        await ledger.record_accepted(request_id, f"task_{seconds}")
        if seconds is None:
            continue
        now += seconds
        await ledger.record(await row(ledger, request_id), Task("succeeded"))
        now += 7
        await ledger.record(await row(ledger, request_id), Task("succeeded"))  # its address was renewed
    assert await ledger.durations(G, 3) == [40, 30, 20]
    assert await ledger.durations(Account("other"), 3) == []
