"""Money with its unit: caps in a currency, what the gateway states, and sums that keep units apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import priced
import pytest
from bench import ACCEPTED_NEXT, Connect, environment
from calls import ask, assert_accepted, assert_refused
from click.testing import CliRunner
from fault_gateway import CREATE, FaultGateway, says

from sora_mcp import dialects
from sora_mcp.cli import main

pytestmark = pytest.mark.anyio

LOST = says({"code": "insert_task_failed", "message": "lost"}, 500)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, connect: Connect, gateway: FaultGateway) -> Connect:
    """A client of a server whose gateway has prices in USD: 0.50 USD for five seconds."""
    monkeypatch.setitem(cast("dict[str, Any]", dialects.DIALECTS), "sora", priced.Priced.configured)
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    return connect


def prompts(*words: str) -> list[dict[str, Any]]:
    return [{"prompt": each} for each in words]


# --- the estimate -----------------------------------------------------------------------------------


async def test_a_dry_run_shows_the_estimate_and_how_it_comes(shop: Connect) -> None:
    async with shop() as client:
        told = await ask(client, "create_video", {"prompt": "fly man", "dry_run": True})
        dear = await ask(client, "create_video", {"prompt": "fly man", "n_frames": 300, "dry_run": True})
        free = await ask(client, "create_video", {"prompt": "fly man at cost", "dry_run": True})
    assert "estimated cost 0.50 USD" in told.text
    assert "5 s x 0.10 USD a second = 0.50 USD" in told.text
    assert "relative" not in told.text
    assert (told.data["cost"], told.data["unit"]) == (0.5, "USD")
    assert told.data["estimate"] == "5 s x 0.10 USD a second = 0.50 USD"
    assert dear.data["cost"] == 1.0
    assert "cost not known" in free.text
    assert not {"cost", "unit", "estimate"} & set(free.data)


async def test_a_relative_gateway_says_no_unit(connect: Connect) -> None:
    async with connect() as client:
        told = await assert_accepted(client, "create_video", {"prompt": "fly man"})
        [video] = (await ask(client, "list_videos", {})).data["videos"]
        described = await ask(client, "describe_gateway", {})
    assert told.data["cost"] == video["cost"] == 1.25
    for data in (told.data, video, described.data["spent"]):
        assert not {"unit", "cost_from", "estimate", "other_costs"} & set(data)


# --- caps -------------------------------------------------------------------------------------------

CAPS = ["max_cost_per_call", "max_cost_per_day"]
GUARDS = [*CAPS, "ask_above_cost"]


@pytest.mark.parametrize("cap", GUARDS)
@pytest.mark.parametrize("value", ["5", 100, "5 EUR"])
@pytest.mark.parametrize("calls", [None, 9])
async def test_a_cap_in_another_unit_refuses_and_says_which_word_to_write(
    cap: str, value: object, calls: int | None, shop: Connect, gateway: FaultGateway
) -> None:
    async with shop(**{cap: value, "max_calls_per_day": calls}) as client:
        told = await assert_refused(client, "create_video", {"prompt": "fly man"}, f"SORA_{cap.upper()}", "USD")
        dry = await ask(client, "create_video", {"prompt": "fly man", "dry_run": True})
        described = await ask(client, "describe_gateway", {})
    assert told.data["error"]["kind"] == "over_cap"
    for text in (dry.text, described.text):
        assert f"SORA_{cap.upper()} is {value}, but costs at this gateway are in USD" in text
        assert 'with the word USD, such as "' in text
    assert gateway.creates() == []


@pytest.mark.parametrize("cap", GUARDS)
async def test_a_cap_in_a_currency_refuses_where_costs_are_relative(
    cap: str, connect: Connect, gateway: FaultGateway
) -> None:
    async with connect(**{cap: "5 USD", "max_calls_per_day": 9}) as client:
        told = await assert_refused(client, "create_video", {"prompt": "fly man"}, "relative", "without a currency")
    assert told.data["error"]["kind"] == "over_cap"
    assert gateway.creates() == []


@pytest.mark.parametrize(("cap", "is_over"), [("0.49 USD", True), ("0.50 usd", False), ("USD 5", False)])
async def test_a_cap_in_the_gateways_currency_holds(
    cap: str, *, is_over: bool, shop: Connect, gateway: FaultGateway
) -> None:
    async with shop(max_cost_per_call=cap) as client:
        if is_over:
            await assert_refused(client, "create_video", {"prompt": "fly man"}, "costs 0.50 USD", "allows 0.49 USD")
        else:
            await assert_accepted(client, "create_video", {"prompt": "fly man"})
    assert len(gateway.creates()) == (0 if is_over else 1)


@pytest.mark.parametrize("prompt", ["fly man at cost", "fly man at 0", "fly man at -1", "fly man for nothing"])
@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("calls", [None, 9])
async def test_without_a_price_a_cap_in_a_currency_refuses_whatever_other_cap_there_is(
    prompt: str, cap: str, calls: int | None, shop: Connect, gateway: FaultGateway
) -> None:
    async with shop(**{cap: "5 USD", "max_calls_per_day": calls}) as client:
        await assert_refused(client, "create_video", {"prompt": prompt}, "an unknown cost", f"SORA_{cap.upper()}")
    assert gateway.creates() == []
    async with shop(max_calls_per_day=calls) as client:
        await assert_accepted(client, "create_video", {"prompt": prompt})


async def test_ten_tenths_of_a_cap_are_the_whole_cap(shop: Connect, gateway: FaultGateway) -> None:
    async with shop(max_cost_per_day="1 USD") as client:
        for number in range(10):
            await assert_accepted(client, "create_video", {"prompt": f"{number} at 0.02"})
        described = await ask(client, "describe_gateway", {})
        await assert_refused(client, "create_video", {"prompt": "more at 0.0000001"}, "1 USD was spent", "allows 1 USD")
    assert described.data["caps"] == {"per_day": "1 USD", "left_today": "0 USD"}
    assert "1 USD in 24 hours, 0 USD of that left" in described.text
    assert len(gateway.creates()) == 10


async def test_what_may_have_been_paid_counts_towards_a_cap_in_a_currency(shop: Connect, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, LOST)
    async with shop(max_cost_per_day="0.90 USD") as client:
        await ask(client, "create_video", {"prompt": "fly man"})
        told = await assert_refused(client, "create_video", {"prompt": "fly boy"}, "0.50 USD more may have been")
        listed = await ask(client, "list_videos", {})
    assert "this would add 0.50 USD, and" in told.text
    assert (listed.data["uncertain_cost"], listed.data["cost"], listed.data["unit"]) == (0.5, 0, "USD")
    assert "perhaps 0.50 USD more for those with an unknown outcome" in listed.text


async def test_the_user_is_asked_above_an_amount_of_money(shop: Connect) -> None:
    async with shop(ask_above_cost="0.40 USD") as client:
        told = await ask(client, "create_video", {"prompt": "fly man", "dry_run": True})
    assert told.data["outcome"] == "not_submitted"


# --- what the gateway states --------------------------------------------------------------------------


async def test_the_gateways_own_figure_takes_the_place_of_the_estimate(shop: Connect, gateway: FaultGateway) -> None:
    async with shop(max_cost_per_day="1 USD") as client:
        await assert_accepted(client, "create_video", {"prompt": "one"})
        await assert_accepted(client, "create_video", {"prompt": "two"})
        await assert_refused(client, "create_video", {"prompt": "three"}, "1 USD was spent")
        gateway.on("GET", f"{CREATE}/task_1", priced.costing(0.3))
        told = await ask(client, "get_video", {"task_id": "task_1"})
        assert (told.data["cost"], told.data["unit"], told.data["cost_from"]) == (0.3, "USD", "gateway")
        assert "0.30 USD, as stated by the gateway" in told.text
        await assert_refused(client, "create_video", {"prompt": "three"}, "0.80 USD was spent")
        gateway.on("GET", f"{CREATE}/task_2", priced.costing(0.2))
        await ask(client, "get_video", {"task_id": "task_2"})
        await assert_accepted(client, "create_video", {"prompt": "three"})
        listed = await ask(client, "list_videos", {})
    assert (listed.data["cost"], listed.data["unit"]) == (1.0, "USD")
    assert "; cost 1 USD." in listed.text
    assert [(each["cost"], each["cost_from"]) for each in listed.data["videos"]] == [
        *[(0.5, "estimate"), (0.2, "gateway"), (0.3, "gateway")],
    ]


@pytest.mark.parametrize("status", ["QUEUED", "IN_PROGRESS"])
async def test_what_is_stated_before_the_end_does_not_count(status: str, shop: Connect, gateway: FaultGateway) -> None:
    gateway.on("GET", CREATE, priced.costing(0, status))
    async with shop(max_cost_per_day="0.60 USD") as client:
        await assert_accepted(client, "create_video", {"prompt": "one"})
        told = await ask(client, "get_video", {"task_id": "task_1"})
        await assert_refused(client, "create_video", {"prompt": "two"}, "0.50 USD was spent")
    assert (told.data["cost"], told.data["cost_from"]) == (0.5, "estimate")


@pytest.mark.parametrize("amount", [-1, "0.1", None, 1e12, True, [0.1]])
async def test_a_stated_figure_that_is_no_amount_is_ignored(
    amount: object, shop: Connect, gateway: FaultGateway
) -> None:
    gateway.on("GET", CREATE, priced.costing(amount))
    async with shop() as client:
        await assert_accepted(client, "create_video", {"prompt": "one"})
        told = await ask(client, "get_video", {"task_id": "task_1"})
    assert (told.data["state"], told.data["cost"], told.data["cost_from"]) == ("succeeded", 0.5, "estimate")


async def test_a_video_of_unknown_cost_stops_a_days_cap(shop: Connect, gateway: FaultGateway) -> None:
    async with shop() as client:
        await assert_accepted(client, "create_video", {"prompt": "one at cost"})
    async with shop(max_cost_per_day="5 USD") as client:
        await assert_refused(
            client, "create_video", {"prompt": "two"}, "1 video of the last 24 hours is not known in USD"
        )
    assert len(gateway.creates()) == 1


async def test_the_gateway_is_asked_about_a_video_of_unknown_cost_before_it_stops_anything(
    shop: Connect, gateway: FaultGateway
) -> None:
    gateway.on("GET", CREATE, priced.costing(4.5))
    async with shop() as client:
        await assert_accepted(client, "create_video", {"prompt": "one at cost"})
    async with shop(max_cost_per_day="5 USD") as client:
        await assert_accepted(client, "create_video", {"prompt": "two"})
        await assert_refused(client, "create_video", {"prompt": "three"}, "5 USD was spent")


async def test_how_many_costs_are_not_known_is_told(shop: Connect) -> None:
    async with shop() as client:
        await assert_accepted(client, "create_video", {"prompt": "one at cost"})
        await assert_accepted(client, "create_video", {"prompt": "two"})
        described = await ask(client, "describe_gateway", {})
        listed = await ask(client, "list_videos", {})
    assert (described.data["spent"]["cost"], described.data["spent"]["unpriced"]) == (0.5, 1)
    assert "cost 0.50 USD (the gateway's own figures for finished videos, estimates for the others)." in described.text
    assert "Requests without a known cost: 1." in described.text
    assert listed.data["unpriced"] == 1


# --- two units ------------------------------------------------------------------------------------------


async def test_two_units_are_never_added(shop: Connect, gateway: FaultGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop() as client:
        await assert_accepted(client, "create_video", {"prompt": "for money"})
    monkeypatch.undo()
    async with shop(max_cost_per_day=1.25) as client:
        await assert_accepted(client, "create_video", {"prompt": "for a relative cost"})
        listed = await ask(client, "list_videos", {})
        described = await ask(client, "describe_gateway", {})
        await assert_refused(client, "create_video", {"prompt": "another"}, "1.25 was spent")
    other = [{"unit": "USD", "cost": 0.5}]
    assert (listed.data["cost"], listed.data["other_costs"]) == (1.25, other)
    assert "relative cost 1.25, in other units cost 0.50 USD" in listed.text
    assert (described.data["spent"]["cost"], described.data["spent"]["other_costs"]) == (1.25, other)
    assert "In other units: cost 0.50 USD." in described.text
    assert len(gateway.creates()) == 2


# --- at the shell ------------------------------------------------------------------------------------------


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Runs a command of ours against the sandbox, with prices in USD; what it printed."""
    monkeypatch.setitem(cast("dict[str, Any]", dialects.DIALECTS), "sora", priced.Priced.configured)
    for name, value in environment(tmp_path, SANDBOX_SECONDS="0").items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, **settings: str) -> str:
        environ = {f"SORA_{name}": value for name, value in settings.items()}
        result = CliRunner().invoke(main, arguments, env=environ)
        assert isinstance(result.exception, SystemExit | None), result.exception
        return result.output

    return run


def test_the_shell_tells_money_in_its_lines_sums_and_caps(shell: Callable[..., str]) -> None:
    shell("create", "a fox")
    shell("create", "a dear fox at 0.2512")
    listed = shell("list", "--wait").splitlines()
    assert [" 1.256 USD " in listed[0], " 0.50 USD  " in listed[1]] == [True, True]  # columns stand below each other
    assert "2 succeeded; cost 1.756 USD." in listed[2]
    assert "1.756 USD in the last 24 hours (at most 5 USD)" in shell("doctor", MAX_COST_PER_DAY="5 usd")
    assert "Caps: 5 USD in 24 hours, 3.244 USD of that left." in shell("gateway", MAX_COST_PER_DAY="5 USD")


@pytest.mark.parametrize("command", ["doctor", "gateway", "create a fox"])
def test_the_shell_says_which_word_a_cap_lacks(shell: Callable[..., str], command: str) -> None:
    told = shell(*command.split(maxsplit=1), MAX_COST_PER_DAY="5")
    assert "SORA_MAX_COST_PER_DAY is 5, but costs at this gateway are in USD" in told
    assert 'Please write SORA_MAX_COST_PER_DAY with the word USD, such as "5 USD".' in told
