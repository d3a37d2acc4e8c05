"""Amounts with their unit: exact, never mixed, and written as people write them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_mcp.core.cost import RELATIVE, Cost, describe_cost, sum_in_unit, total

UNITS = st.sampled_from([RELATIVE, "USD", "EUR"])
AMOUNTS = st.decimals(0, 10_000, places=4)
COSTS = st.builds(Cost.of, AMOUNTS, UNITS)


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (1.25, RELATIVE, "1.25"),
        (0, RELATIVE, "0"),
        (3.0, RELATIVE, "3"),
        (0.5, "USD", "0.50 USD"),
        ("5", "USD", "5 USD"),
        ("0.525", "USD", "0.525 USD"),
        ("0.0000042", "USD", "0.0000042 USD"),
        (1e-12, "USD", "0.000000001 USD"),
        ("1e3", "EUR", "1000 EUR"),
        (0, "USD", "0 USD"),
    ],
)
def test_a_cost_is_written_with_its_currency(amount: object, unit: str, text: str) -> None:
    assert str(Cost.of(amount, unit)) == text


@pytest.mark.parametrize("amount", [-1, "-0.1", "nan", "inf", float("inf"), "", "five", None, True, "1e999", [1]])
def test_what_is_no_amount_is_none(amount: object) -> None:
    with pytest.raises(ValueError, match="no "):
        Cost.of(amount, "USD")
    assert Cost.from_gateway(amount, "USD") is None


@pytest.mark.parametrize("amount", [1_000_001, "1e7", 10**30, 1e300])
def test_more_than_any_video_costs_is_no_stated_price(amount: object) -> None:
    assert Cost.from_gateway(amount, "USD") is None
    assert Cost.of(amount).amount == float(str(amount))


@pytest.mark.parametrize("amount", [0, 0.52, "0.52", 1_000_000])
def test_a_gateway_may_state_any_other_amount(amount: object) -> None:
    assert Cost.from_gateway(amount, "USD") == Cost.of(amount, "USD")


@given(st.lists(COSTS))
def test_a_sum_is_exact_and_keeps_units_apart(costs: list[Cost]) -> None:
    sums = total(costs)
    assert len({each.unit for each in sums}) == len(sums)
    for unit in (RELATIVE, "USD", "EUR"):
        exact = sum((Decimal(each.billionths).scaleb(-9) for each in costs if each.unit == unit), Decimal(0))
        assert Decimal(sum_in_unit(sums, unit).billionths).scaleb(-9) == exact


@given(st.lists(AMOUNTS, max_size=50))
def test_no_order_of_adding_changes_a_sum(amounts: list[Decimal]) -> None:
    costs = [Cost.of(each, "USD") for each in amounts]
    assert total(costs) == total(reversed(costs))


def test_ten_times_a_tenth_is_one() -> None:
    assert total([Cost.of(0.1, "USD")] * 10) == (Cost.of(1, "USD"),)


@given(COSTS, COSTS)
def test_two_units_are_never_added_or_compared(one: Cost, other: Cost) -> None:
    if one.unit == other.unit:
        assert (one + other).minus(other) == one
        assert (one > other) == (one.billionths > other.billionths)
        return
    for act in (lambda: one + other, lambda: one > other, lambda: one.minus(other)):
        with pytest.raises(ValueError, match="two units"):
            act()


def test_a_cost_in_a_sentence() -> None:
    assert describe_cost(Cost.of(3)) == "a relative cost of 3"
    assert describe_cost(Cost.of("0.5", "USD")) == "0.50 USD"
    assert describe_cost(None) == "an unknown cost"
