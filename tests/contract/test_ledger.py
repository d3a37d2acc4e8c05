"""What every ledger promises, through its own interface."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from ledgers import BODY, GUARDED, G, OpenLedger, Store, begin, row
from msgspec.structs import replace

from sora_mcp.core.caps import OverCap
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import NotFound
from sora_mcp.core.states import OPEN, TRANSITIONS
from sora_mcp.core.tasks import Generation, State, Task
from sora_mcp.ledger import AbandonedTask, Account, Intent, Ledger, RowMissing, SpendingPolicy

pytestmark = pytest.mark.anyio


async def test_an_outcome_is_decided_once(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.record_accepted(request_id, "task_1")
    entry = await ledger.record_not_accepted(request_id, "rejected", "too late")
    assert (entry.state, entry.task_id, entry.failure_reason) == ("submitted", "task_1", None)


async def test_a_final_state_stays_but_addresses_are_renewed(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.record_accepted(request_id, "task_1")
    for url in ("https://a/1", "https://a/2"):
        done = Task("succeeded", generations=(Generation(variant=1, generation_id="gen_1", url=url),))
        await ledger.record(await row(ledger, "task_1"), done)
    entry = await ledger.record(await row(ledger, "task_1"), Task("running", progress=40))
    assert entry.state == "succeeded"
    assert [g.url for g in entry.generations] == ["https://a/2"]
    found = await ledger.find_generation(G, "gen_1")
    assert found is not None
    assert found[0].task_id == "task_1"


async def test_a_row_is_never_seen_from_another_gateway(ledger: Ledger) -> None:
    request_id = await begin(ledger, Account("one"))
    await ledger.record_accepted(request_id, "task_1")
    assert await ledger.find(Account("two"), "task_1") is None
    assert await ledger.find(Account("two"), request_id) is None
    assert await ledger.page(Account("two"), limit=10) == []


async def test_ids_are_found_by_their_beginning_at_their_own_gateway_only_newest_first(ledger: Ledger) -> None:
    for task_id in ("task_1a", "task_1b", "task_2", "tasks"):
        await ledger.record_accepted(await begin(ledger), task_id)
    request_id = await begin(ledger)
    await ledger.record_accepted(await begin(ledger, Account("two")), "task_1c")
    assert await ledger.find_ids_by_prefix(G, "task_1", 10) == ["task_1b", "task_1a"]
    assert await ledger.find_ids_by_prefix(G, "task_", 2) == ["task_2", "task_1b"]
    assert await ledger.find_ids_by_prefix(G, "task%", 10) == []
    assert await ledger.find_ids_by_prefix(G, request_id[:12], 10) == [request_id]
    assert await ledger.find_ids_by_prefix(Account("two"), "req_", 10) != [request_id]


async def test_an_account_tells_keys_apart_and_never_holds_one(open_ledger: OpenLedger, ledger: Ledger) -> None:
    first = await ledger.account("https://g", "sk-canary-1")
    assert first != await ledger.account("https://g", "sk-canary-2")
    other = open_ledger()
    assert first == await other.account("https://g", "sk-canary-1")
    assert "canary" not in str(first)


async def test_this_machine_is_one_gateway_whatever_it_is_called(ledger: Ledger) -> None:
    names = {
        await ledger.account(f"http://{host}:3000/api", "sk-canary-1")
        for host in ("localhost", "127.0.0.1", "0.0.0.0", "[::1]", "[::]")  # noqa: S104 - nothing is bound
    }
    assert len(names) == 1
    for other in ("http://localhost:3001/api", "http://localhost.example:3000/api", "http://127.0.0.11:3000/api"):
        assert await ledger.account(other, "sk-canary-1") not in names


async def test_pages_go_back_in_time_without_gaps(ledger: Ledger) -> None:
    made = [await begin(ledger) for _ in range(5)]
    seen: list[str] = []
    before: str | None = None
    while page := await ledger.page(G, limit=2, before=before):
        seen += [entry.request_id for entry in page]
        before = page[-1].request_id
    assert seen == made[::-1]


async def test_a_page_begins_before_a_request_of_the_same_account_only(ledger: Ledger) -> None:
    others, _ = await ledger.begin(Intent(Account("other"), "simple_compose", BODY, "x", [], None))
    await begin(ledger)
    for before in (others.request_id, "req_made_up", "1", ""):
        with pytest.raises(NotFound):
            await ledger.page(G, limit=2, before=before)
        with pytest.raises(NotFound):
            await ledger.search(G, "fly", limit=2, before=before)


async def test_a_task_adopted_twice_stands_once(ledger: Ledger) -> None:
    async def adopt() -> None:
        await ledger.adopt(G, "task_elsewhere", Task("running", progress=10, body={"prompt": "x"}))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(adopt)
    assert len(await ledger.page(G, limit=10)) == 1


@pytest.mark.parametrize(("task_id", "state"), [("task_1", "submitted"), (None, "rejected")])
async def test_an_unknown_outcome_can_be_settled_once(ledger: Ledger, task_id: str | None, state: str) -> None:
    request_id = await begin(ledger)
    assert await ledger.settle(G, request_id, task_id) is None
    await ledger.record_not_accepted(request_id, "unknown", "a time-out")
    entry = await ledger.settle(G, request_id, task_id)
    assert entry is not None
    assert (entry.state, entry.task_id) == (state, task_id)
    assert await ledger.settle(G, request_id, None) is None
    assert [each for each, _ in await ledger.history(request_id)] == ["sending", "unknown", state]


async def test_a_task_corrects_what_a_person_said_before_but_no_other_task(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.record_not_accepted(request_id, "unknown", "a time-out")
    said = await ledger.settle(G, request_id, None)
    assert said is not None
    assert said.settled_at is not None
    corrected = await ledger.settle(G, request_id, "task_1")
    assert corrected is not None
    assert (corrected.state, corrected.task_id) == ("submitted", "task_1")
    assert await ledger.settle(G, request_id, "task_2") is None


async def test_what_the_gateway_refused_is_corrected_by_no_person(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.record_not_accepted(request_id, "rejected", "bad prompt")
    assert await ledger.settle(G, request_id, "task_1") is None


async def test_an_acceptance_that_comes_after_a_person_named_another_task_is_not_forgotten(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.record_not_accepted(request_id, "unknown", "its writer seemed to be gone")
    await ledger.settle(G, request_id, "task_2")
    await ledger.record(await row(ledger, "task_2"), Task("succeeded"))
    late = await ledger.record_accepted(request_id, "task_1")
    assert (late.task_id, late.state, late.cost) == ("task_1", "submitted", Cost.of(1.25))
    assert [(each.task_id, each.state) for each in await ledger.page(G, limit=9)] == [
        ("task_1", "submitted"),
        ("task_2", "succeeded"),
    ]
    assert (await row(ledger, request_id)).task_id == "task_2"


async def put(ledger: Ledger, request_id: str, state: State) -> None:
    """Bring a row that is being sent to `state`."""
    if state in {"rejected", "unknown"}:
        await ledger.record_not_accepted(request_id, state, "x")
    elif state != "sending":
        await ledger.record_accepted(request_id, "task_1")
        await ledger.record(await row(ledger, "task_1"), Task(state))


@pytest.mark.parametrize("state", TRANSITIONS)
async def test_the_same_again_is_a_duplicate_unless_the_first_came_to_nothing(ledger: Ledger, state: State) -> None:
    first = await begin(ledger)
    await put(ledger, first, state)
    again, is_new = await ledger.begin(Intent(G, "simple_compose", BODY, "same", [], Cost.of(1.25)), GUARDED)
    assert is_new == (state not in {*OPEN, "succeeded"})
    assert (again.request_id == first) != is_new


@pytest.mark.parametrize(("account", "fingerprint"), [(Account("other"), "same"), (G, "other")])
async def test_another_request_or_another_gateway_is_no_duplicate(
    ledger: Ledger, account: Account, fingerprint: str
) -> None:
    await begin(ledger)
    intent = Intent(account, "simple_compose", BODY, fingerprint, [], Cost.of(1.25))
    assert (await ledger.begin(intent, GUARDED))[1]


async def again(ledger: Ledger, window_s: float = 600) -> bool:
    """Whether the same request counts as new."""
    return (
        await ledger.begin(
            Intent(G, "simple_compose", BODY, "same", [], Cost.of(1.25)), SpendingPolicy(duplicate_window_s=window_s)
        )
    )[1]


async def test_the_window_ends_some_time_after_the_success(open_ledger: OpenLedger) -> None:
    now = [1000.0]
    ledger = open_ledger(lambda: now[0])
    await ledger.record_accepted(await begin(ledger), "task_1")
    now[0] = 5000.0
    await ledger.record(await row(ledger, "task_1"), Task("succeeded"))
    now[0] = 5599.0
    assert not await again(ledger)
    now[0] = 5601.0
    assert await again(ledger)


@pytest.mark.parametrize("state", OPEN)
async def test_what_is_still_open_is_a_duplicate_however_long_it_takes(open_ledger: OpenLedger, state: State) -> None:
    now = [1000.0]
    ledger = open_ledger(lambda: now[0])
    await put(ledger, await begin(ledger), state)
    now[0] += 5_000_000
    assert not await again(ledger)
    assert await again(ledger, window_s=0)


async def test_the_guard_reaches_across_keys_and_not_across_owners(ledger: Ledger) -> None:
    mine, rotated = [await ledger.account("https://g", key) for key in ("sk-canary-1", "sk-canary-2")]
    others = await ledger.account("https://g", "sk-canary-1", "ann")
    first = await begin(ledger, mine)
    await ledger.record_accepted(first, "task_1")
    intent = Intent(rotated, "simple_compose", BODY, "same", [], Cost.of(1.25))
    assert (await ledger.begin(intent, GUARDED))[0].request_id == first
    for video_id in (first, "task_1"):
        entry = await ledger.find(rotated, video_id)
        assert entry is not None
        assert entry.request_id == first
        assert await ledger.find(others, video_id) is None
    assert await ledger.page(rotated, limit=10) == []
    assert (await ledger.begin(replace(intent, account=others), GUARDED))[1]


async def test_the_same_under_the_fingerprint_of_an_earlier_release_is_a_duplicate(ledger: Ledger) -> None:
    first = await begin(ledger)  # recorded as `same`
    intent = Intent(G, "simple_compose", BODY, "stripped", [], Cost.of(1.25), other_fingerprint="same")
    entry, is_new = await ledger.begin(intent, GUARDED)
    assert (entry.request_id, is_new) == (first, False)


@pytest.mark.parametrize("state", ["rejected", "failed", "blocked"])
async def test_the_same_that_was_refused_before_is_remembered_for_a_day(open_ledger: OpenLedger, state: State) -> None:
    now = [1000.0]
    ledger = open_ledger(lambda: now[0])
    request_id = await begin(ledger)
    await put(ledger, request_id, state)
    intent = Intent(G, "simple_compose", BODY, "same", [], Cost.of(1.25))
    before = (await ledger.find_earlier(intent, SpendingPolicy())).refused
    assert before is not None
    assert (before.request_id, before.state) == (request_id, state)
    now[0] += 86_401
    assert (await ledger.find_earlier(intent, SpendingPolicy())).refused is None


async def test_a_task_id_that_came_late_beats_what_a_person_said(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.record_not_accepted(request_id, "unknown", "x")
    await ledger.settle(G, request_id, None)
    assert (await ledger.record_accepted(request_id, "task_1")).state == "submitted"


async def test_a_task_of_another_request_settles_nothing(ledger: Ledger) -> None:
    await ledger.record_accepted(await begin(ledger), "task_1")
    lost = await begin(ledger)
    await ledger.record_not_accepted(lost, "unknown", "x")
    assert await ledger.settle(G, lost, "task_1") is None


async def test_a_row_is_old_where_the_clock_went_back(open_ledger: OpenLedger) -> None:
    now = [1000.0]
    ledger = open_ledger(lambda: now[0])
    entry = await ledger.find(G, await begin(ledger))
    assert entry is not None
    assert ledger.age(entry) == 0
    now[0] -= 3600
    assert ledger.age(entry) == float("inf")


_TO: list[State] = [
    "submitted",
    "rejected",
    "unknown",
    "sending",
    "queued",
    "running",
    "succeeded",
    "failed",
    "blocked",
]


@pytest.mark.parametrize("start", TRANSITIONS)
@pytest.mark.parametrize("end", _TO)
async def test_a_row_moves_only_where_it_may(ledger: Ledger, start: State, end: State) -> None:
    request_id = await begin(ledger)
    await put(ledger, request_id, start)
    moved = await ledger.record_not_accepted(request_id, end, "later")
    assert moved.state == (end if end in TRANSITIONS[start] else start)


async def test_a_task_is_given_up_after_a_day_and_no_longer_counts_as_under_way(open_ledger: OpenLedger) -> None:
    now = [0.0]
    ledger = open_ledger(lambda: now[0])
    await ledger.record_accepted(await begin(ledger), "task_1")
    other = Intent(G, "simple_compose", BODY, "other", [], Cost.of(1.25))
    with pytest.raises(OverCap):
        await ledger.begin(other, SpendingPolicy(running=1))
    assert len(await ledger.under_way(G, 10)) == 1
    now[0] = 86_401.0
    assert await ledger.under_way(G, 10) == []
    assert (await ledger.begin(other, SpendingPolicy(running=1)))[1]


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_task_that_was_adopted_first_goes_to_the_request_that_made_it(ledger: Ledger, by_hand: bool) -> None:
    request_id = await begin(ledger)
    done = Task("succeeded", generations=(Generation(variant=1, generation_id="gen_1", url="https://a/1"),))
    adopted = await ledger.adopt(G, "task_1", done)
    if by_hand:
        await ledger.record_not_accepted(request_id, "unknown", "a time-out")
        await ledger.settle(G, request_id, "task_1")
    else:
        await ledger.record_accepted(request_id, "task_1")
    found = await ledger.find(G, "task_1")
    assert found is not None
    assert (found.request_id, found.cost) == (request_id, Cost.of(1.25))
    assert [g.generation_id for g in found.generations] == ["gen_1"]
    assert (found.state, found.task_id) == ("succeeded", "task_1")
    assert await row(ledger, adopted.request_id) == found  # whoever waits for it finds the other
    assert await ledger.page(G, limit=10) == [found]


@pytest.mark.parametrize("said", [Task("running"), Task("succeeded")])
async def test_a_late_answer_about_a_task_goes_to_the_row_that_has_it_now(ledger: Ledger, said: Task) -> None:
    request_id = await begin(ledger)
    adopted = await ledger.adopt(G, "task_1", Task("running"))
    await ledger.record_not_accepted(request_id, "unknown", "a time-out")
    await ledger.settle(G, request_id, "task_1")
    done = replace(said, generations=(Generation(variant=1, generation_id="gen_1"),))
    told = await ledger.record(adopted, done)  # asked about before it was settled
    assert (told.request_id, told.state) == (request_id, said.state)
    found = await ledger.find_generation(G, "gen_1")
    assert found is not None
    assert found[0].request_id == request_id


async def test_a_task_that_another_request_has_leaves_the_outcome_unknown(ledger: Ledger) -> None:
    first, second = [await ledger.record_accepted(await begin(ledger), "task_1") for _ in range(2)]
    assert (first.state, first.task_id) == ("submitted", "task_1")
    assert (second.state, second.task_id) == ("unknown", None)
    assert "task_1" in (second.failure_reason or "")


async def test_further_ids_of_an_answer_are_kept(ledger: Ledger) -> None:
    entry = await ledger.record_accepted(await begin(ledger), "task_1", ["task_2", "task_3"])
    assert entry.other_ids == ("task_2", "task_3")


@pytest.mark.parametrize("state", ["failed", "blocked"])
async def test_a_success_wins_whatever_was_said_before(ledger: Ledger, state: State) -> None:
    await ledger.record_accepted(await begin(ledger), "task_1")
    await ledger.record(await row(ledger, "task_1"), Task(state, failure_reason="expired"))
    entry = await ledger.record(await row(ledger, "task_1"), Task("succeeded"))
    assert (entry.state, entry.failure_reason) == ("succeeded", None)


async def test_a_task_that_the_gateway_forgot_can_be_given_up(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.record_accepted(request_id, "task_1")
    assert await ledger.settle(G, request_id, "task_2") is None
    assert await ledger.settle(G, request_id, None) is None  # accepted meanwhile, and nobody was asked
    entry = await ledger.settle(G, request_id, None, given_up=AbandonedTask("task_1", "forgotten"))
    assert entry is not None
    assert (entry.state, entry.task_id) == ("failed", "task_1")
    other = Intent(G, "simple_compose", BODY, "other", [], Cost.of(1.25))
    assert (await ledger.begin(other, SpendingPolicy(running=1)))[1]


async def test_what_may_be_running_counts_as_running(open_ledger: OpenLedger) -> None:
    now = [0.0]
    ledger = open_ledger(lambda: now[0])
    await ledger.record_not_accepted(await begin(ledger), "unknown", "a time-out")
    other = Intent(G, "simple_compose", BODY, "other", [], Cost.of(1.25))
    with pytest.raises(OverCap):
        await ledger.begin(other, SpendingPolicy(running=1))
    with pytest.raises(OverCap):
        await ledger.find_earlier(other, SpendingPolicy(running=1))
    now[0] = 86_401.0
    assert (await ledger.begin(other, SpendingPolicy(running=1)))[1]


async def test_a_video_without_an_address_is_looked_for_within_the_hour_after_it_was_made(
    open_ledger: OpenLedger,
) -> None:
    now = [0.0]
    ledger = open_ledger(lambda: now[0])
    made = [(f"task_{number}", await begin(ledger)) for number in (1, 2)]
    now[0] = 86_000.0  # as long as a task is followed
    for (task_id, request_id), url in zip(made, (None, "https://a/1"), strict=True):
        await ledger.record_accepted(request_id, task_id)
        done = Task("succeeded", generations=(Generation(variant=1, url=url),))
        await ledger.record(await row(ledger, task_id), done)
    now[0] += 3599.0
    assert [entry.task_id for entry in await ledger.without_address(G, 10)] == ["task_1"]
    now[0] += 2.0
    assert await ledger.without_address(G, 10) == []


async def test_what_has_finished_and_is_not_saved_is_found(ledger: Ledger, tmp_path: Path) -> None:
    request_id = await begin(ledger)
    await ledger.record_accepted(request_id, "task_1")
    assert await ledger.unsaved(G, 10) == []
    two = tuple(Generation(variant=i, url=f"https://a/{i}") for i in (1, 2))
    await ledger.record(await row(ledger, "task_1"), Task("succeeded", generations=two))
    for variant in (1, 2):
        assert [entry.request_id for entry in await ledger.unsaved(G, 10)] == [request_id]
        await ledger.record_saved(request_id, variant, tmp_path / f"{variant}.mp4")
    assert await ledger.unsaved(G, 10) == []


async def test_owners_with_the_same_key_are_told_apart(ledger: Ledger) -> None:
    names = [await ledger.account("https://g", "sk-canary-1", owner) for owner in ("", "ann", "ben")]
    assert len(set(names)) == 3


async def test_what_another_connection_wrote_is_seen_at_the_next_read(open_ledger: OpenLedger) -> None:
    one, other = open_ledger(), open_ledger()
    request_id = await begin(one)
    await one.record_accepted(request_id, "task_1")
    for writer, reader, progress in ((one, other, 10), (other, one, 20), (one, one, 30), (other, other, 40)):
        await reader.find(G, "task_1")
        await writer.record(await row(writer, "task_1"), Task("running", progress=progress))
        for ledger in (reader, writer):
            assert (await row(ledger, request_id)).progress == progress
    one.close()
    await other.record(await row(other, "task_1"), Task("succeeded"))
    assert (await row(one, request_id)).state == "succeeded"


async def test_who_only_asked_about_a_task_does_not_own_it(ledger: Ledger) -> None:
    ann, ben = [await ledger.account("https://g", "sk-canary-1", owner) for owner in ("ann", "ben")]
    await ledger.adopt(ben, "task_1", Task("running"))
    assert not await ledger.is_of_another_owner(ann, "task_1")
    entry, _ = await ledger.begin(Intent(ann, "simple_compose", BODY, "same", [], Cost.of(1.25)))
    await ledger.record_accepted(entry.request_id, "task_1")
    assert await ledger.is_of_another_owner(ben, "task_1")


async def test_what_is_under_way_is_the_newest_of_all_states_of_it(ledger: Ledger) -> None:
    said: dict[str, State] = {}
    states: tuple[State, ...] = ("running", "submitted", "queued", "succeeded", "submitted", "running")
    for number, state in enumerate(states):
        task_id = f"task_{number}"
        entry, _ = await ledger.begin(Intent(G, "simple_compose", BODY, task_id, [], None))
        entry = await ledger.record_accepted(entry.request_id, task_id)
        if state != "submitted":
            await ledger.record(entry, Task(state))
        said[task_id] = state
    newest = [task_id for task_id in reversed(said) if said[task_id] != "succeeded"]
    for limit in (1, 3, 9):
        assert [entry.task_id for entry in await ledger.under_way(G, limit)] == newest[:limit]
        older = await ledger.page(G, limit=limit, before=entry.request_id, states=("running", "submitted"))
        assert [entry.task_id for entry in older] == ["task_4", "task_1", "task_0"][:limit]


async def test_what_became_of_an_entry_is_recorded_in_a_ledger_that_was_taken_back_meanwhile(
    ledger: Ledger, store: Store, open_ledger: OpenLedger
) -> None:
    began, _ = await ledger.begin(Intent(G, "simple_compose", BODY, "same", ["task_0"], Cost.of(1.25)))
    store.query(f"DELETE FROM videos WHERE request_id = '{began.request_id}'")  # noqa: S608 - our own id
    with pytest.raises(RowMissing):
        await ledger.record_accepted(began.request_id, "task_1")
    await ledger.restore(began)
    await ledger.restore(began)
    entry = await ledger.record_accepted(began.request_id, "task_1")
    assert entry == replace(
        began, state="submitted", task_id="task_1", number=entry.number, updated_at=entry.updated_at
    )
    intent = Intent(G, "simple_compose", BODY, "same", [], Cost.of(1.25))
    duplicate, is_new = await open_ledger().begin(intent, GUARDED)
    assert (duplicate.task_id, is_new) == ("task_1", False)
