"""What every ledger promises about whose turn it is to ask the gateway, and when."""

from __future__ import annotations

import itertools
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest
from ledgers import OpenLedger, begin, row

from sora_mcp.core.errors import FileProblem
from sora_mcp.core.schedule import LEASE_S
from sora_mcp.core.tasks import Task
from sora_mcp.ledger import Ledger

pytestmark = pytest.mark.anyio


async def may_ask(ledger: Ledger, request_id: str) -> bool:
    """Whether one gets a turn; it ends as if nothing had come of it."""
    with suppress(FileProblem):
        async with ledger.lease(request_id) as is_ours:
            raise FileProblem("nothing came of it" if is_ours else "not now")
    return is_ours


async def test_one_at_a_time_may_ask_about_a_task(open_ledger: OpenLedger) -> None:
    one, other = open_ledger(), open_ledger()
    request_id = await begin(one)
    await one.record_accepted(request_id, "task_1")
    turns: list[bool] = []
    all_came, came = anyio.Event(), 0

    async def ask(ledger: Ledger) -> None:
        nonlocal came
        async with ledger.lease(request_id) as is_ours:
            turns.append(is_ours)
            came += 1
            if came == 8:
                all_came.set()
            await all_came.wait()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask, one)
                tasks.start_soon(ask, other)
    assert sorted(turns) == [False] * 7 + [True]


async def test_a_turn_lasts_for_as_long_as_it_is_kept_and_ends_with_the_process(open_ledger: OpenLedger) -> None:
    now = [1000.0]
    one, other = open_ledger(lambda: now[0]), open_ledger(lambda: now[0])
    request_id = await begin(one)
    async with one.lease(request_id) as is_ours:
        assert is_ours
        now[0] += LEASE_S - 0.1
        assert not await may_ask(other, request_id)
        now[0] += 0.2  # whoever had it was killed, perhaps: nobody kept it alive
        async with other.lease(request_id) as is_theirs:
            assert is_theirs


async def test_a_turn_that_is_kept_alive_is_not_taken_away(open_ledger: OpenLedger) -> None:
    one, other = open_ledger(), open_ledger()
    request_id = await begin(one)
    with anyio.fail_after(60):
        async with one.lease(request_id):
            first = (await row(other, request_id)).not_before
            while (await row(other, request_id)).not_before == first:
                pass
            assert not await may_ask(other, request_id)


async def test_what_was_not_asked_after_all_may_be_polled_at_once(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    with anyio.CancelScope() as scope:
        async with ledger.lease(request_id):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert await may_ask(ledger, request_id)


async def test_a_question_that_was_given_up_counts_as_asked(open_ledger: OpenLedger) -> None:
    now = [1000.0]
    ledger = open_ledger(lambda: now[0])
    request_id = await begin(ledger)
    with anyio.CancelScope() as scope:
        async with ledger.lease(request_id, 10):
            now[0] += 4
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    now[0] += 9.9
    assert not await may_ask(ledger, request_id)
    now[0] += 0.2
    assert await may_ask(ledger, request_id)
    assert (await row(ledger, request_id)).failed_polls == 1  # of may_ask: who gives up saw no failure


async def test_who_lost_a_turn_does_not_end_the_next_one(open_ledger: OpenLedger) -> None:
    now = [1000.0]
    one, other = open_ledger(lambda: now[0]), open_ledger(lambda: now[0])
    request_id = await begin(one)
    with anyio.CancelScope() as scope:
        async with one.lease(request_id):
            now[0] += LEASE_S + 1
            async with other.lease(request_id) as is_theirs:
                assert is_theirs
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert not await may_ask(one, request_id)


@pytest.mark.parametrize("seconds_back", [1, 60, 599, 9000])
async def test_a_clock_that_went_back_keeps_nobody_from_asking(open_ledger: OpenLedger, seconds_back: float) -> None:
    now = [10_000.0]
    ledger = open_ledger(lambda: now[0])
    request_id = await begin(ledger)
    await ledger.record_accepted(request_id, "task_1")
    await ledger.record(await row(ledger, "task_1"), Task("running"), quiet_s=60)
    assert not (await row(ledger, request_id)).may_be_polled(now[0])
    now[0] -= seconds_back
    assert (await row(ledger, request_id)).is_due(now[0], 10)
    assert await may_ask(ledger, request_id)


async def test_a_task_is_asked_about_ever_more_rarely(open_ledger: OpenLedger) -> None:
    now = [0.0]
    ledger = open_ledger(lambda: now[0])
    request_id = await begin(ledger)
    await ledger.record_accepted(request_id, "task_1")
    looks: list[float] = []
    while now[0] < 3600:
        if (await row(ledger, request_id)).is_due(now[0], 10):
            looks.append(now[0])
            await ledger.record(await row(ledger, "task_1"), Task("running"), quiet_s=10)
        now[0] += 1
    pauses = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert looks[0] == 10
    assert (pauses[0], pauses[-1]) == (10, 60)
    assert pauses == sorted(pauses)


async def test_a_gateway_that_fails_is_asked_more_rarely_and_recovers(open_ledger: OpenLedger) -> None:
    now = [0.0]
    ledger = open_ledger(lambda: now[0])
    request_id = await begin(ledger)
    await ledger.record_accepted(request_id, "task_1")
    for misses, pause in ((1, 20), (2, 40), (3, 80)):
        assert await may_ask(ledger, request_id)
        assert (await row(ledger, request_id)).failed_polls == misses
        assert not (await row(ledger, request_id)).is_due(now[0] + pause - 1, 10)
        assert (await row(ledger, request_id)).is_due(now[0] + pause, 10)
    with suppress(FileProblem):
        async with ledger.lease(request_id, 500):
            raise FileProblem("nothing came of it")
    assert not (await row(ledger, request_id)).may_be_polled(now[0] + 499)
    await ledger.record(await row(ledger, "task_1"), Task("running"))
    assert (await row(ledger, request_id)).failed_polls == 0


async def test_asking_for_a_new_address_leaves_a_claim_and_the_misses_before_it(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.record_accepted(request_id, "task_1")
    await may_ask(ledger, request_id)
    async with ledger.lease(request_id) as is_ours:
        assert is_ours
        await ledger.record(await row(ledger, "task_1"), Task("succeeded"), quiet_s=None)
        assert (await row(ledger, request_id)).failed_polls == 1
        assert not await may_ask(ledger, request_id)
