"""What a new request settles: those of unknown outcome that a person says did not run, in its own transaction."""

from __future__ import annotations

import anyio
import pytest
from ledgers import BODY, GUARDED, G, OpenLedger, begin, row
from msgspec.structs import replace

from sora_mcp.core.caps import OverCap, TooManyRunning
from sora_mcp.core.cost import Cost
from sora_mcp.core.tasks import Task
from sora_mcp.ledger import Account, Entry, Intent, Ledger, SpendingPolicy

pytestmark = pytest.mark.anyio

AGAIN = Intent(G, "simple_compose", BODY, "same", [], Cost.of(1.25))
ONE_AT_A_TIME = SpendingPolicy(duplicate_window_s=600, running=1, per_day=Cost.of(2))


async def unknown(ledger: Ledger) -> str:
    """A request whose outcome is not known."""
    request_id = await begin(ledger)
    await ledger.record_not_accepted(request_id, "unknown", "the connection broke")
    return request_id


async def test_the_unknown_one_is_settled_with_the_begin_and_frees_its_place(ledger: Ledger) -> None:
    first = await unknown(ledger)
    settling = replace(AGAIN, settles=(first,))
    assert (await ledger.find_earlier(settling, ONE_AT_A_TIME)).duplicate is None
    second, is_new = await ledger.begin(settling, ONE_AT_A_TIME)
    assert is_new
    settled = await row(ledger, first)
    assert settled.state == "rejected"
    assert "settled" in str(settled.failure_reason)
    assert [state for state, _ in await ledger.history(first)] == ["sending", "unknown", "rejected"]
    assert [video.id for video in (await ledger.spending(G)).running] == [second.request_id]


async def test_looking_beforehand_settles_nothing(ledger: Ledger) -> None:
    first = await unknown(ledger)
    await ledger.find_earlier(replace(AGAIN, settles=(first,)), ONE_AT_A_TIME)
    assert (await row(ledger, first)).state == "unknown"


async def test_where_a_cap_forbids_the_new_one_the_first_stays_unknown(ledger: Ledger) -> None:
    first = await unknown(ledger)
    other, _ = await ledger.begin(replace(AGAIN, fingerprint="another"))
    with pytest.raises(TooManyRunning, match=other.request_id):
        await ledger.begin(replace(AGAIN, settles=(first,)), ONE_AT_A_TIME)
    with pytest.raises(OverCap):
        await ledger.begin(replace(AGAIN, settles=(first,)), replace(ONE_AT_A_TIME, running=None))
    assert (await row(ledger, first)).state == "unknown"


async def test_of_two_processes_that_settle_the_same_one_submits(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    settling = replace(AGAIN, settles=(await unknown(ledger),))
    begun: list[tuple[str, bool]] = []

    async def submit(own: Ledger) -> None:
        entry, is_new = await own.begin(settling, GUARDED)
        begun.append((entry.request_id, is_new))

    async with anyio.create_task_group() as processes:
        for _ in range(4):
            processes.start_soon(submit, open_ledger())
    assert sorted(is_new for _, is_new in begun) == [False, False, False, True]
    assert len({request_id for request_id, _ in begun}) == 1


async def test_a_request_that_turned_out_to_have_run_is_a_duplicate_whatever_was_said(ledger: Ledger) -> None:
    first = await unknown(ledger)
    await ledger.settle(G, first, "task_1")
    entry, is_new = await ledger.begin(replace(AGAIN, settles=(first,)), GUARDED)
    assert (entry.request_id, entry.state, is_new) == (first, "submitted", False)


async def test_another_unknown_one_that_nobody_spoke_of_still_stands_in_the_way(ledger: Ledger) -> None:
    first, second = await unknown(ledger), await unknown(ledger)
    entry, is_new = await ledger.begin(replace(AGAIN, settles=(first,)), GUARDED)
    assert (entry.request_id, is_new) == (second, False)
    assert (await row(ledger, first)).state == "unknown"
    assert (await ledger.begin(replace(AGAIN, settles=(first, second)), GUARDED))[1]
    assert {(await row(ledger, each)).state for each in (first, second)} == {"rejected"}


async def test_nobody_settles_for_another_account(ledger: Ledger) -> None:
    first = await unknown(ledger)
    stranger = replace(AGAIN, account=Account("g", owner="somebody else"), settles=(first,))
    assert (await ledger.begin(stranger, GUARDED))[1]
    assert (await row(ledger, first)).state == "unknown"


async def test_what_is_being_sent_is_not_settled(ledger: Ledger) -> None:
    first = await begin(ledger)
    entry, is_new = await ledger.begin(replace(AGAIN, settles=(first,)), GUARDED)
    assert (entry.request_id, entry.state, is_new) == (first, "sending", False)
    assert (await ledger.begin(replace(AGAIN, settles=(first,))))[1]
    assert (await row(ledger, first)).state == "sending"


async def after_a_500(ledger: Ledger) -> str:
    """A request that the gateway answered with a 500: whether it runs is not known."""
    request_id = await begin(ledger)
    words = {"gateway_message": "out of memory", "code": "server_error"}
    await ledger.record_not_accepted(request_id, "unknown", "the gateway answered 500", **words)
    return request_id


def failure(entry: Entry | None) -> tuple[str | None, ...]:
    assert entry is not None
    return entry.failure_reason, entry.gateway_message, entry.failure_code


NO_FAILURE = (None, None, None)


async def test_a_video_that_turned_out_to_run_carries_no_failure(ledger: Ledger) -> None:
    first = await after_a_500(ledger)
    assert failure(await row(ledger, first)) == ("the gateway answered 500", "out of memory", "server_error")
    assert failure(await ledger.settle(G, first, "task_1")) == NO_FAILURE
    running = await ledger.record(await row(ledger, first), Task("running", progress=40))
    assert (running.state, failure(running)) == ("running", NO_FAILURE)


async def test_one_that_was_said_not_to_have_run_and_runs_carries_no_failure(ledger: Ledger) -> None:
    first = await after_a_500(ledger)
    await ledger.settle(G, first, None)
    assert failure(await ledger.settle(G, first, "task_1")) == NO_FAILURE


async def test_a_lost_one_that_is_found_again_carries_no_failure(ledger: Ledger) -> None:
    first = await begin(ledger)
    entry = await ledger.record_accepted(first, "task_1")
    lost = await ledger.record(entry, Task("lost", failure_reason="the server knows it no more"))
    assert failure(lost) == ("the server knows it no more", None, None)
    assert failure(await ledger.record(lost, Task("running"))) == NO_FAILURE
