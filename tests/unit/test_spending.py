"""What is a duplicate, what the caps allow, and what the user is asked about: decided without a ledger."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sora_mcp.core.advice import Do, RaiseCap
from sora_mcp.core.caps import (
    CostsNotKnown,
    NoPrices,
    OtherUnit,
    OverCallCap,
    OverCap,
    OverDailyCap,
    TooManyCalls,
    TooManyRunning,
)
from sora_mcp.core.cost import RELATIVE, Cost
from sora_mcp.core.spending import NO_POLICY, EarlierRequest, OpenVideo, Spending, SpendingContext, SpendingPolicy
from sora_mcp.core.states import OPEN
from sora_mcp.core.tasks import State

NOW = 1_000_000.0
STATES: tuple[State, ...] = get_args(State)
WINDOW = SpendingPolicy(duplicate_window_s=600)


ONE = Cost.of(1)


def standing(
    *same: EarlierRequest, spent: float = 0, uncertain: float = 0, running: tuple[OpenVideo, ...] = ()
) -> SpendingContext:
    return SpendingContext(NOW, same, Spending((Cost.of(spent),), (Cost.of(uncertain),), running))


def cost_of(amount: float | None) -> Cost | None:
    return None if amount is None else Cost.of(amount)


@pytest.mark.parametrize("state", STATES)
def test_only_what_is_open_or_succeeded_is_a_duplicate(state: State) -> None:
    decided = WINDOW.decide(ONE, standing(EarlierRequest("req_1", state, NOW - 1, NOW - 1)))
    assert decided == ("req_1" if state in {*OPEN, "succeeded"} else None)


@pytest.mark.parametrize("state", OPEN)
def test_what_is_open_is_a_duplicate_however_old_it_is(state: State) -> None:
    assert WINDOW.decide(ONE, standing(EarlierRequest("req_1", state, 0))) == "req_1"


@pytest.mark.parametrize(
    ("created_s", "succeeded_s", "is_duplicate"),
    [(5000, 599, True), (5000, 600, False), (599, None, True), (600, None, False), (1, 5000, True), (-9, None, True)],
)
def test_the_window_counts_from_the_success_or_from_the_request_whichever_is_later(
    created_s: float, succeeded_s: float | None, is_duplicate: bool
) -> None:
    succeeded_at = None if succeeded_s is None else NOW - succeeded_s
    earlier = EarlierRequest("req_1", "succeeded", NOW - created_s, succeeded_at)
    assert (WINDOW.decide(ONE, standing(earlier)) == "req_1") == is_duplicate


def test_the_newest_duplicate_is_the_one_and_what_is_none_hides_no_older_one() -> None:
    refused, newer, older = (
        EarlierRequest("req_3", "failed", NOW),
        EarlierRequest("req_2", "running", NOW - 5),
        EarlierRequest("req_1", "unknown", NOW - 9),
    )
    assert WINDOW.decide(ONE, standing(refused, newer, older)) == "req_2"


@pytest.mark.parametrize("state", STATES)
def test_without_a_window_nothing_is_a_duplicate(state: State) -> None:
    assert NO_POLICY.decide(ONE, standing(EarlierRequest("req_1", state, NOW, NOW))) is None


def test_a_duplicate_costs_nothing_so_that_no_cap_forbids_it() -> None:
    policy = SpendingPolicy(duplicate_window_s=600, per_day=Cost.of(0), running=0)
    video = OpenVideo("req_1", "running")
    assert policy.decide(None, standing(EarlierRequest("req_1", "running", NOW), spent=9, running=(video,))) == "req_1"


@pytest.mark.parametrize(("number", "is_allowed"), [(0, True), (1, True), (2, False), (3, False)])
def test_no_more_videos_run_at_once_than_the_cap_allows(number: int, is_allowed: bool) -> None:
    running = (OpenVideo("task_1", "running"), OpenVideo("req_2", "unknown"), OpenVideo("req_3", "sending"))[:number]
    policy = SpendingPolicy(running=2)
    if is_allowed:
        assert policy.decide(ONE, standing(running=running)) is None
        return
    with pytest.raises(TooManyRunning, match="task_1"):
        policy.decide(ONE, standing(running=running))


@pytest.mark.parametrize(
    ("spent", "uncertain", "cost", "is_allowed"),
    [(0, 0, 5, True), (4, 0, 1, True), (4, 0, 1.1, False), (2, 2, 1, True), (2, 2.5, 1, False), (0, 0, None, False)],
)
def test_what_may_have_been_spent_counts_as_spent_and_an_unknown_cost_is_beyond_every_cap(
    spent: float, uncertain: float, cost: float | None, is_allowed: bool
) -> None:
    policy = SpendingPolicy(per_day=Cost.of(5))
    if is_allowed:
        assert policy.decide(cost_of(cost), standing(spent=spent, uncertain=uncertain)) is None
        return
    with pytest.raises(OverDailyCap):
        policy.decide(cost_of(cost), standing(spent=spent, uncertain=uncertain))


def test_a_refusal_of_the_day_names_the_newest_unknown_requests() -> None:
    running = tuple(OpenVideo(f"req_{i}", "unknown" if i % 2 else "running") for i in range(9))
    with pytest.raises(OverDailyCap) as raised:
        SpendingPolicy(per_day=ONE).decide(ONE, standing(spent=1, uncertain=2, running=running))
    assert "req_1, req_3, req_5:" in raised.value.message


@pytest.mark.parametrize(("cost", "is_allowed"), [(4.9, True), (5, True), (5.1, False), (None, False)])
def test_one_call_costs_no_more_than_its_cap(cost: float | None, is_allowed: bool) -> None:
    SpendingPolicy().check_call(cost_of(cost))
    if is_allowed:
        SpendingPolicy(per_call=Cost.of(5)).check_call(cost_of(cost))
        return
    with pytest.raises(OverCap) as raised:
        SpendingPolicy(per_call=Cost.of(5)).check_call(cost_of(cost))
    assert "max_cost_per_call" in raised.value.message


@pytest.mark.parametrize(("cost", "is_asked"), [(5, False), (5.1, True), (None, True)])
def test_the_user_is_asked_about_what_costs_more_or_may(cost: float | None, is_asked: bool) -> None:
    assert SpendingPolicy(ask_above=Cost.of(5)).asks_about(cost_of(cost)) == is_asked
    assert not SpendingPolicy().asks_about(cost_of(cost))


# --- units ------------------------------------------------------------------------------------------

USD_5 = Cost.of(5, "USD")
CAPS = ["per_call", "per_day", "ask_above"]
PRICE_NOT_KNOWN = "The price of this request is not known; giving n_frames, width and height may make it known."


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("calls_per_day", [None, 9])
@pytest.mark.parametrize(("unit", "limit"), [("USD", Cost.of(5)), ("USD", Cost.of(5, "EUR")), (RELATIVE, USD_5)])
def test_a_cap_in_another_unit_refuses_every_call(cap: str, calls_per_day: int | None, unit: str, limit: Cost) -> None:
    policy = SpendingPolicy(unit=unit, calls_per_day=calls_per_day, **{cap: limit})  # type: ignore[arg-type]
    for cost in (None, Cost.of(0.1, unit), Cost.of(0.1, limit.unit)):
        with pytest.raises(OtherUnit):
            policy.check_call(cost)


@pytest.mark.parametrize("limit", [Cost.of(5), USD_5])
def test_where_no_price_is_known_a_cap_on_calls_holds_in_place_of_one_on_costs(limit: Cost) -> None:
    for policy in (SpendingPolicy(unit=None, per_call=limit), SpendingPolicy(unit=None, per_day=limit)):
        with pytest.raises(NoPrices):
            policy.check_call(None)
        capped = replace(policy, calls_per_day=9)
        capped.check_call(None)
        assert capped.decide(None, standing()) is None


@pytest.mark.parametrize("cost", [None, Cost.of(0, "USD"), Cost.of(1), Cost.of(1, "EUR")])
@pytest.mark.parametrize("calls_per_day", [None, 9])
def test_without_a_price_in_its_currency_a_cap_refuses(cost: Cost | None, calls_per_day: int | None) -> None:
    policy = SpendingPolicy(unit="USD", per_call=USD_5, per_day=USD_5, ask_above=USD_5, calls_per_day=calls_per_day)
    with pytest.raises(OverCallCap):
        policy.check_call(cost)
    with pytest.raises(OverDailyCap):
        policy.decide(cost, standing())
    assert policy.asks_about(cost)


@pytest.mark.parametrize("cost", [None, Cost.of(1, "USD")])
@pytest.mark.parametrize("cap", ["per_call", "per_day"])
def test_a_refusal_of_an_unknown_price_says_what_may_make_it_known_before_it_names_the_cap(
    cap: str, cost: Cost | None
) -> None:
    policy = SpendingPolicy(unit="USD", **{cap: Cost.of(0.5, "USD")})  # type: ignore[arg-type]
    with pytest.raises(OverCap) as raised:
        policy.check_call(cost) if cap == "per_call" else policy.decide(cost, standing())
    remedies = raised.value.advice
    assert remedies[-1] == RaiseCap(f"max_cost_{cap}")
    words = [each.sentence for each in remedies if isinstance(each, Do)]
    assert words == ([PRICE_NOT_KNOWN] if cost is None else [])


def test_where_a_cost_of_the_day_is_not_known_its_cap_in_a_currency_refuses() -> None:
    policy = SpendingPolicy(unit="USD", per_day=USD_5)
    known = SpendingContext(NOW, (), Spending((Cost.of(1, "USD"),), calls=2, priced={"USD": 2}))
    assert policy.decide(Cost.of(1, "USD"), known) is None
    for priced in ({}, {"USD": 1}, {"USD": 1, RELATIVE: 1}):
        with pytest.raises(CostsNotKnown):
            policy.decide(Cost.of(1, "USD"), SpendingContext(NOW, (), replace(known.spending, priced=priced)))


AMOUNTS = st.decimals(0, 6, places=2)


@given(st.lists(st.tuples(AMOUNTS, st.sampled_from(["USD", "EUR", RELATIVE]), st.booleans())), AMOUNTS)
def test_no_order_of_calls_passes_a_days_cap(calls: list[tuple[Decimal, str, bool]], cap: Decimal) -> None:
    """What is let through adds up to no more than the cap, and nothing is refused that would have fitted."""
    limit = Cost.of(cap, "USD")
    policy = SpendingPolicy(unit="USD", per_day=limit)
    spent = uncertain = Decimal(0)
    for amount, unit, is_lost in calls:
        cost = Cost.of(amount, unit)
        so_far = Spending((Cost.of(spent, "USD"), Cost.of(9)), (Cost.of(uncertain, "USD"),))
        fits = unit == "USD" and amount > 0 and spent + uncertain + amount <= cap
        try:
            policy.decide(cost, SpendingContext(NOW, (), so_far))
        except OverDailyCap:
            assert not fits
            continue
        assert fits
        spent, uncertain = (spent, uncertain + amount) if is_lost else (spent + amount, uncertain)
    assert spent + uncertain <= cap


def test_calls_that_are_to_be_paid_together_are_held_against_what_is_left_of_the_day() -> None:
    spending = Spending((Cost.of(1),), (Cost.of(1),), calls=3, priced={RELATIVE: 3})
    policy = SpendingPolicy(per_day=Cost.of(4), calls_per_day=5, running=1)
    policy.check_sum([ONE, ONE], spending)
    policy.check_sum([], spending)
    with pytest.raises(TooManyCalls, match="would add 3"):
        policy.check_sum([ONE] * 3, spending)
    with pytest.raises(OverDailyCap, match=r"would add 2\.5"):
        policy.check_sum([ONE, Cost.of(1.5)], spending)
    for unknown in (None, Cost.of(1, "USD")):
        with pytest.raises(OverDailyCap, match="unknown cost"):
            policy.check_sum([ONE, unknown], spending)


@pytest.mark.parametrize(
    ("costs", "is_asked"),
    [([], False), ([ONE, ONE], False), ([ONE] * 3, True), ([None], True), ([ONE, Cost.of(1, "USD")], True)],
)
def test_the_user_is_asked_about_the_sum_of_calls_that_are_paid_together(
    costs: list[Cost | None], is_asked: bool
) -> None:
    assert SpendingPolicy(ask_above=Cost.of(2)).asks_about_sum(costs) is is_asked
    assert not SpendingPolicy().asks_about_sum(costs)
