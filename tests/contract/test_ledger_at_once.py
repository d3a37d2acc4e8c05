"""What every ledger promises to several servers that do the same thing at the same moment."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import anyio
import pytest
from ledgers import BODY, GUARDED, G, OpenLedger, Store, begin, row
from msgspec.structs import replace

from sora_mcp.core.accounts import Person, Team
from sora_mcp.core.batches import BatchLine
from sora_mcp.core.caps import OverCap
from sora_mcp.core.cost import Cost
from sora_mcp.core.spending import TeamCaps
from sora_mcp.core.tasks import Task
from sora_mcp.ledger import Account, Intent, Ledger, SpendingPolicy

pytestmark = pytest.mark.anyio

SERVERS = 4
TIMES = 10
URL = "https://gateway.example"
INTENT = Intent(G, "simple_compose", BODY, "same", [], Cost.of(1.25))


@pytest.fixture
async def servers(open_ledger: OpenLedger) -> list[Ledger]:
    """Several that share a ledger, which is made already."""
    opened = [open_ledger() for _ in range(SERVERS)]
    for each in opened:
        await each.seal_keys()
    return opened


async def at_once(calls: Iterable[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """What each returns, or the OverCap that it raises; they begin together."""
    results: list[Any] = []

    async def run(call: Callable[[], Awaitable[Any]]) -> None:
        try:
            results.append(await call())
        except OverCap as refusal:
            results.append(refusal)

    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(run, call)
    return results


CAPS = {
    "cost": SpendingPolicy(per_day=Cost.of(6.25), team=TeamCaps(per_day=Cost.of(15))),
    "calls": SpendingPolicy(calls_per_day=5, team=TeamCaps(calls_per_day=12)),
    "running": SpendingPolicy(running=5, team=TeamCaps(running=12)),
}
"""Five videos for each, twelve for all."""
PEOPLE = [Account(URL, key * 16, name) for key, name in (("a", "ann"), ("b", "ann"), ("a", "ben"), ("a", "cid"))]
"""Three people, one of them with two keys."""


@pytest.mark.parametrize("cap", CAPS)
async def test_no_cap_is_passed_however_many_ask_at_once(servers: list[Ledger], cap: str) -> None:
    def create(server: Ledger, account: Account) -> Callable[[], Awaitable[Any]]:
        return lambda: server.begin(replace(INTENT, account=account), CAPS[cap])

    results = await at_once(
        create(server, PEOPLE[(number + shift) % len(PEOPLE)])
        for number in range(50)
        for shift, server in enumerate(servers)
    )
    begun = [result for result in results if not isinstance(result, OverCap)]
    assert (len(begun), len(results)) == (12, 200)
    assert (await servers[0].spending(Team(URL))).calls == 12
    assert max([(await servers[0].spending(Person(URL, name))).calls for name in ("ann", "ben", "cid")]) <= 5


async def test_of_equal_creates_at_once_one_is_sent(servers: list[Ledger]) -> None:
    results = await at_once(partial(server.begin, INTENT, GUARDED) for server in servers * TIMES)
    assert [is_new for _, is_new in results].count(True) == 1
    assert len({entry.request_id for entry, _ in results}) == 1


async def test_a_line_that_several_send_at_once_is_sent_once(servers: list[Ledger], store: Store) -> None:
    line = BatchLine("film.jsonl", "line:1", "d", keys=frozenset({"line:1"}))
    intent = replace(INTENT, line=line)
    results = await at_once(partial(server.begin, intent) for server in servers * TIMES)
    assert [is_new for _, is_new in results].count(True) == 1
    assert store.query("SELECT count(*) FROM batch_lines") == [(1,)]


async def test_an_unknown_one_that_several_say_did_not_run_is_made_again_once(servers: list[Ledger]) -> None:
    first = await begin(servers[0])
    await servers[0].record_not_accepted(first, "unknown", "the connection was lost")
    again = replace(INTENT, settles=(first,))
    results = await at_once(partial(server.begin, again, GUARDED) for server in servers * TIMES)
    assert [is_new for _, is_new in results].count(True) == 1
    assert (await row(servers[1], first)).state == "rejected"


async def test_a_task_that_is_heard_of_in_every_way_at_once_has_one_entry(servers: list[Ledger], store: Store) -> None:
    """It is accepted, adopted by queries that came before that was known, settled by a person, and asked about."""
    first, second, third, fourth = servers
    for number in range(TIMES):
        task_id, request_id = f"task_{number}", await begin(first)
        other = await begin(first)
        await first.record_not_accepted(other, "unknown", "the connection was lost")
        asked = await row(first, request_id)
        await at_once(
            [
                partial(second.adopt, G, task_id, Task("queued")),
                partial(first.record_accepted, request_id, task_id),
                partial(third.adopt, G, task_id, Task("running", progress=10)),
                partial(fourth.settle, G, other, task_id),
                partial(second.record, replace(asked, task_id=task_id), Task("running")),
            ]
        )
        assert store.query("SELECT task_id FROM videos").count((task_id,)) == 1
        known = await second.find(G, task_id)
        assert known is not None
        assert known.request_id in {request_id, other}
        assert known.state in {"submitted", "queued", "running"}


async def test_what_several_learn_of_a_task_at_once_is_all_kept(servers: list[Ledger]) -> None:
    for number in range(TIMES):
        request_id, task_id = await begin(servers[0]), f"task_{number}"
        entry = await servers[0].record_accepted(request_id, task_id)
        await at_once(
            [
                partial(servers[0].record, entry, Task("succeeded")),
                partial(servers[1].record, entry, Task("running", progress=90)),
                partial(servers[2].record, entry, Task("queued")),
                partial(servers[3].record_missing, entry),
            ]
        )
        assert (await row(servers[1], request_id)).state == "succeeded"
        assert [state for state, _ in await servers[2].history(request_id)][-1] == "succeeded"


async def test_what_each_makes_once_is_the_same_for_all(open_ledger: OpenLedger, store: Store) -> None:
    """The schema, the salt, the seal keys, and an answer to a question; by servers that start at the same moment."""
    servers = [open_ledger() for _ in range(SERVERS)]
    accounts = await at_once(partial(server.account, URL, "sk-1") for server in servers * 3)
    assert len(set(accounts)) == 1
    keys = await at_once(server.seal_keys for server in servers * 3)
    assert all(each == keys[0] for each in keys)
    used = await at_once(partial(server.use_answer, "answer_1", 600) for server in servers * 3)
    assert used.count(True) == 1
    assert store.query("SELECT count(*) FROM salt") == [(1,)]


async def test_one_of_several_may_ask_about_a_task(servers: list[Ledger]) -> None:
    entry = await servers[0].record_accepted(await begin(servers[0]), "task_1")
    asking = 0

    async def ask(server: Ledger) -> bool:
        nonlocal asking
        async with server.lease(entry.request_id) as is_ours:
            asking += is_ours
            assert asking <= 1
            await anyio.sleep(0.2 if is_ours else 0)
            if is_ours:
                await server.record(entry, Task("running"), 60)
                asking -= 1
        return is_ours

    results = await at_once(partial(ask, server) for server in servers * 3)
    assert results.count(True) == 1


async def test_an_answer_counts_that_is_recorded_while_others_take_its_server_for_gone(
    store: Store, servers: list[Ledger]
) -> None:
    if not store.values:
        pytest.skip("it needs a database whose connections can be ended")
    for number in range(TIMES):
        request_id, task_id = await begin(servers[0]), f"task_{number}"
        cut_off(store)
        await at_once(
            [
                partial(servers[0].record_accepted, request_id, task_id),
                *(server.states for server in servers[1:]),
            ]
        )
        entry = await row(servers[1], request_id)
        assert (entry.state, entry.task_id) == ("submitted", task_id)


async def test_a_listener_hears_of_what_another_server_records(store: Store, servers: list[Ledger]) -> None:
    if not store.values:
        pytest.skip("a file tells nobody")
    listening, recording = servers[:2]
    entry = await recording.record_accepted(await begin(recording), "task_1")
    with anyio.fail_after(30), listening.listen(entry.request_id) as listener:
        assert await listener.wait(0)  # nobody listened before
        assert not await listener.wait(0)
        async with anyio.create_task_group() as group:
            group.start_soon(recording.record, entry, Task("succeeded"))
            began = time.monotonic()
            assert await listener.wait(60)
        assert time.monotonic() - began < 10
        assert not await listener.wait(0)


async def test_a_listener_looks_again_after_its_server_was_cut_off(store: Store, servers: list[Ledger]) -> None:
    if not store.values:
        pytest.skip("it needs a database whose connections can be ended")
    listening, recording = servers[:2]
    entry = await recording.record_accepted(await begin(recording), "task_1")
    with anyio.fail_after(60), listening.listen(entry.request_id) as listener:
        await listener.wait(0)
        assert not await listener.wait(0)
        cut_off(store)
        await recording.record(entry, Task("succeeded"))
        assert await listener.wait(30)


def cut_off(store: Store) -> None:
    """End the connections by which servers are seen to live, and are told of changes."""
    store.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE datname ="
        " current_database() AND locktype = 'advisory'"
    )
