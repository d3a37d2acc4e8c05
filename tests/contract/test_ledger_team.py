"""What every ledger promises where several people share a server: reading for all of them, caps of all, and answers."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from ledgers import BODY, OpenLedger, Store
from msgspec.structs import replace
from postgres import Cluster

from sora_mcp.core.accounts import Team
from sora_mcp.core.caps import OverCap, OverDailyCap
from sora_mcp.core.cost import Cost, sum_in_unit
from sora_mcp.core.spending import TeamCaps
from sora_mcp.core.tasks import Generation, Task
from sora_mcp.core.team_caps import TeamOverDailyCap, TeamTooManyCalls, TeamTooManyRunning
from sora_mcp.ledger import Account, Entry, Intent, Ledger, SpendingPolicy

pytestmark = pytest.mark.anyio

URL = "https://gateway.example"
EVERYBODY = Team(URL)
ANN, BEN = Account(URL, "a" * 16, "ann"), Account(URL, "a" * 16, "ben")
WITH_OWN_KEY, WITHOUT_KEY, NOBODY = Account(URL, "c" * 16, "cid"), Account(URL, "", "dan"), Account(URL, "a" * 16)
ALL = (ANN, BEN, WITH_OWN_KEY, WITHOUT_KEY, NOBODY)
ELSEWHERE = (Account("https://gateway.example:8443", "a" * 16, "ann"), Account("https://gateway.exampl", owner="ann"))


async def make(ledger: Ledger, account: Account, cost: float = 1, policy: SpendingPolicy | None = None) -> Entry:
    intent = Intent(account, "simple_compose", BODY, "same", [], Cost.of(cost))
    entry, is_new = await ledger.begin(intent, policy or SpendingPolicy())
    assert is_new
    return entry


def team(**caps: object) -> SpendingPolicy:
    return SpendingPolicy(team=TeamCaps(**caps))  # type: ignore[arg-type]


async def test_a_team_is_everybody_at_one_gateway(ledger: Ledger) -> None:
    assert (await ledger.spending(EVERYBODY)).calls == 0
    assert await ledger.under_way(EVERYBODY, 10) == []
    for number, account in enumerate((*ALL, *ELSEWHERE), 1):
        await ledger.record_accepted((await make(ledger, account)).request_id, f"task_{number}")
    spending = await ledger.spending(EVERYBODY)
    assert (spending.calls, sum_in_unit(spending.spent, Cost.of(1).unit), len(spending.running)) == (5, Cost.of(5), 5)
    assert [entry.account for entry in await ledger.under_way(EVERYBODY, 10)] == [*ALL[::-1]]
    assert (await ledger.spending(ANN)).calls == 1


async def test_nobodys_many_leave_anothers_out(open_ledger: OpenLedger) -> None:
    now = 1_800_000_000.0
    ledger = open_ledger(lambda: now)
    for number, account in enumerate((WITH_OWN_KEY, BEN, BEN, ANN, ANN, ANN), 1):
        if account == BEN:
            now = 1_800_000_000.0 + 100_000
        await ledger.record_accepted((await make(ledger, account)).request_id, f"task_{number}")
    assert [entry.task_id for entry in await ledger.under_way(EVERYBODY, 3)] == ["task_6", "task_3", "task_5"]
    assert [entry.task_id for entry in await ledger.under_way(EVERYBODY, 9)][-2:] == ["task_2", "task_4"]


async def test_what_finished_is_found_for_a_team(ledger: Ledger) -> None:
    for number, account in enumerate(ALL, 1):
        entry = await ledger.record_accepted((await make(ledger, account)).request_id, f"task_{number}")
        urls = () if account == BEN else (Generation(variant=1, url="https://a/1"),)
        await ledger.record(entry, Task("succeeded", generations=urls))
    assert [entry.account for entry in await ledger.without_address(EVERYBODY, 10)] == [BEN]
    assert [entry.account.owner for entry in await ledger.unsaved(EVERYBODY, 10)] == ["", "dan", "cid", "ann"]


async def test_a_teams_caps_hold_for_all_of_them_together(ledger: Ledger) -> None:
    for account in ALL[:3]:
        await make(ledger, account)
    refused = {"per_day": (Cost.of(3), TeamOverDailyCap), "running": (3, TeamTooManyRunning)}
    refused |= {"calls_per_day": (3, TeamTooManyCalls)}
    for name, (cap, error) in refused.items():
        with pytest.raises(error):
            await make(ledger, WITHOUT_KEY, policy=team(**{name: cap}))
        await make(ledger, ELSEWHERE[0], policy=team(**{name: cap}))
    await make(ledger, WITHOUT_KEY, policy=team(per_day=Cost.of(4), running=4, calls_per_day=4))


async def test_a_persons_cap_holds_whatever_key_they_pay_with(ledger: Ledger) -> None:
    other_key, policy = replace(ANN, key_fingerprint="b" * 16), SpendingPolicy(per_day=Cost.of(2), team=TeamCaps())
    for account in (BEN, ANN, other_key):
        await make(ledger, account, policy=policy)
    with pytest.raises(OverDailyCap):
        await make(ledger, other_key, policy=policy)
    spending = await ledger.spending(other_key.person)
    assert (spending.calls, sum_in_unit(spending.spent, Cost.of(1).unit)) == (2, Cost.of(2))
    await make(ledger, BEN, policy=policy)


async def test_a_persons_cap_and_the_teams_are_decided_in_one_transaction(open_ledger: OpenLedger) -> None:
    """Of many who pay at once through several processes as many are let through as the caps allow."""
    ledgers = [open_ledger() for _ in range(4)]
    policy = SpendingPolicy(per_day=Cost.of(3), team=TeamCaps(per_day=Cost.of(5)))
    refused: list[OverCap] = []

    async def pay(number: int) -> None:
        try:
            await make(ledgers[number % 4], (ANN, BEN)[number % 2], policy=policy)
        except OverCap as error:
            refused.append(error)

    async with anyio.create_task_group() as paying:
        for number in range(20):
            paying.start_soon(pay, number)
    spent = sorted([(await ledgers[0].spending(account)).calls for account in (ANN, BEN)])
    assert spent == [2, 3]
    assert len(refused) == 15


async def test_the_same_request_of_two_people_is_two(ledger: Ledger) -> None:
    guarded = SpendingPolicy(duplicate_window_s=600)
    first = await make(ledger, ANN, policy=guarded)
    await make(ledger, BEN, policy=guarded)
    intent = Intent(replace(ANN, key_fingerprint="b" * 16), "simple_compose", BODY, "same", [], None)
    entry, is_new = await ledger.begin(intent, guarded)
    assert (entry.request_id, is_new) == (first.request_id, False)


async def test_nothing_is_told_of_a_damaged_row_of_somebody_else(ledger: Ledger, store: Store) -> None:
    entry = await make(ledger, ANN)
    await ledger.record_accepted(entry.request_id, "task_1")
    store.query("UPDATE videos SET body = 'x'")
    assert await ledger.find(BEN, entry.request_id) is None
    assert await ledger.find(BEN, "task_1") is None


async def test_what_each_owner_spent_is_told_for_all_of_them(ledger: Ledger) -> None:
    for account, cost in ((ANN, 1), (ANN, 2), (BEN, 4), (NOBODY, 8)):
        await make(ledger, account, cost)
    usage = {each.group: each.spent for each in await ledger.usage(None, ("owner",), 0)}
    assert usage == {("ann",): (Cost.of(3),), ("ben",): (Cost.of(4),), ("",): (Cost.of(8),)}
    assert [each.group for each in await ledger.usage("ann", ("owner",), 0)] == [("ann",)]


# --- files ------------------------------------------------------------------------------------------


async def test_a_file_is_where_it_lies_in_the_folder_wherever_a_server_mounts_that(
    cluster: Cluster, tmp_path: Path
) -> None:
    postgres = pytest.importorskip("sora_mcp.ledger.postgres.engine")
    url, name, outside = cluster.database(), "ann-1/task_1.v1.mp4", tmp_path / "elsewhere.mp4"
    ledgers = [postgres.PostgresLedger(url, folder=tmp_path / mount) for mount in "ab"]
    try:
        first, second = [
            await ledgers[0].record_accepted((await make(ledgers[0], who)).request_id, f"task_{who.owner}")
            for who in (ANN, BEN)
        ]
        for entry in (first, second):
            videos = tuple(Generation(variant=variant, url="https://x.example/v") for variant in (1, 2))
            await ledgers[0].record(entry, Task(state="succeeded", gateway_state="SUCCESS", generations=videos))
        await ledgers[0].record_saved(first.request_id, 1, tmp_path / "a" / name)
        await ledgers[0].record_saved(first.request_id, 2, outside)
        read = await ledgers[1].find(ANN, first.request_id)
        assert read is not None
        assert read.files == {1: tmp_path / "b" / name, 2: outside}
        assert await ledgers[1].is_file_of_another(second.request_id, tmp_path / "b" / name)
        assert not await ledgers[1].is_file_of_another(first.request_id, tmp_path / "b" / name)
        assert not await ledgers[1].is_file_of_another(second.request_id, tmp_path / "a" / name)
    finally:
        for each in ledgers:
            each.close()


# --- questions to users ----------------------------------------------------------------------------


async def test_the_keys_of_seals_are_the_same_for_everybody(open_ledger: OpenLedger) -> None:
    keys: list[list[bytes]] = []
    ledgers = [open_ledger() for _ in range(4)]

    async def read(ledger: Ledger) -> None:
        keys.append(await ledger.seal_keys())

    async with anyio.create_task_group() as reading:
        for each in ledgers:
            reading.start_soon(read, each)
    assert keys[1:] == keys[:-1]
    assert [len(key) for key in keys[0]] == [32]
    assert len(set(keys[0][0])) > 8


async def test_keys_of_seals_change_every_day_once_for_everybody_and_the_last_one_still_opens(
    open_ledger: OpenLedger,
) -> None:
    now = 1_800_000_000.0
    ledgers = [open_ledger(lambda: now) for _ in range(4)]
    first = await ledgers[0].seal_keys()
    now += 86_000
    assert await ledgers[1].seal_keys() == first
    now += 500
    keys: list[list[bytes]] = []

    async def read(ledger: Ledger) -> None:
        keys.append(await ledger.seal_keys())

    async with anyio.create_task_group() as reading:
        for each in ledgers * 2:
            reading.start_soon(read, each)
    assert keys[1:] == keys[:-1]
    assert keys[0][1:] == first
    now += 86_500
    newest, *others = await ledgers[2].seal_keys()
    assert others == keys[0][:1]
    assert newest not in keys[0]


async def test_an_answer_is_used_once_by_whichever_process(open_ledger: OpenLedger) -> None:
    ledgers = [open_ledger() for _ in range(4)]
    firsts: list[bool] = []

    async def use(ledger: Ledger) -> None:
        firsts.append(await ledger.use_answer("one", 600))

    async with anyio.create_task_group() as using:
        for each in ledgers * 3:
            using.start_soon(use, each)
    assert sorted(firsts) == [False] * 11 + [True]
    assert await ledgers[0].use_answer("another", 600)
    assert not await open_ledger().use_answer("one", 600)


async def test_used_answers_are_forgotten_when_they_are_too_late_anyway(open_ledger: OpenLedger, store: Store) -> None:
    now = 1_000_000.0
    ledger = open_ledger(lambda: now)
    for number in range(50):
        assert await ledger.use_answer(str(number), 600)
    now += 599
    assert not await ledger.use_answer("0", 600)
    now += 2
    assert await ledger.use_answer("new", 600)
    assert store.query("SELECT count(*) FROM used_answers") == [(1,)]
