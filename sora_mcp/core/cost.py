"""What a video costs: an amount with its unit. Amounts in different units are never added or compared.

An amount is a whole number of billionths, so that sums are exact. (No Decimal: importing it takes about as long as
starting the program.)
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

Unit = str
"""`relative` (480x480, 5 s, one variant = 1.0), or the code of a currency in capitals, such as `USD`."""
RELATIVE: Unit = "relative"
_BILLION = 1_000_000_000
_MAX_DIGITS = 330
"""Digits before the point; the largest float has 309."""
_MAX_CURRENCY_BILLIONTHS = 1_000_000 * _BILLION
"""No video costs more, in any currency."""


class Cost(Struct, frozen=True):
    """An amount of 0 or more, in `billionths` of `unit`."""

    billionths: int
    unit: Unit = RELATIVE

    @classmethod
    def of(cls, amount: object, unit: Unit = RELATIVE) -> Cost:
        """Return an amount given as a number or a decimal text, rounded up to a whole billionth.

        Raises ValueError if it is negative, not finite, or not a number.
        """
        from decimal import ROUND_CEILING, Decimal, DecimalException  # noqa: PLC0415 - see above

        try:
            value = Decimal(str(amount))
        except DecimalException:
            raise ValueError("no number") from None
        if not value.is_finite() or value < 0 or value.adjusted() > _MAX_DIGITS:
            raise ValueError("no amount")
        return cls(int(value.scaleb(9).to_integral_value(ROUND_CEILING)), unit)

    @classmethod
    def from_gateway(cls, amount: object, unit: Unit) -> Cost | None:
        """Return an amount of a currency as a gateway states it, or None if it is not an amount or more than any video
        costs."""
        if isinstance(amount, bool) or not isinstance(amount, int | float | str):
            return None
        try:
            cost = cls.of(amount, unit)
        except ValueError:
            return None
        return cost if cost.billionths <= _MAX_CURRENCY_BILLIONTHS else None

    @property
    def amount(self) -> float:
        """The amount as a number, for results and logs."""
        return self.billionths / _BILLION

    @property
    def is_relative(self) -> bool:
        """Whether it is a relative cost and not money."""
        return self.unit == RELATIVE

    @property
    def currency(self) -> Unit | None:
        """The unit, or None if it is relative."""
        return None if self.is_relative else self.unit

    def __str__(self) -> str:
        """`1.25` if it is relative, else `5 USD` or `0.525 USD`."""
        if self.is_relative:
            return f"{self.amount:g}"
        whole, parts = divmod(self.billionths, _BILLION)
        decimals = f"{parts:09}".rstrip("0").ljust(2, "0")
        return f"{whole}.{decimals} {self.unit}" if parts else f"{whole} {self.unit}"

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.billionths + self._amount_to_compare(other), self.unit)

    def __gt__(self, other: Cost) -> bool:
        return self.billionths > self._amount_to_compare(other)

    def minus(self, other: Cost) -> Cost:
        """Return what is left of it; never below 0."""
        return Cost(max(0, self.billionths - self._amount_to_compare(other)), self.unit)

    def _amount_to_compare(self, other: Cost) -> int:
        if other.unit != self.unit:
            raise ValueError(f"{self.unit} and {other.unit} are two units")
        return other.billionths


class Estimate(Struct, frozen=True):
    """What a request will cost by its gateway's prices. `formula` explains a cost that does not come from a table of
    sizes and lengths."""

    cost: Cost
    formula: str = ""


Costs = tuple[Cost, ...]
"""Sums, one per unit."""


def total(costs: Iterable[Cost]) -> Costs:
    """Add up costs, each unit separately."""
    sums: dict[Unit, Cost] = {}
    for cost in costs:
        sums[cost.unit] = sums.get(cost.unit, Cost(0, cost.unit)) + cost
    return tuple(sums.values())


def sum_in_unit(costs: Iterable[Cost], unit: Unit) -> Cost:
    """Return the sum in one unit, 0 if there is none."""
    return next((each for each in costs if each.unit == unit), Cost(0, unit))


def describe_cost(cost: Cost | None) -> str:
    """Describe a cost as the object of a sentence: `a relative cost of 1.25`, `0.50 USD`."""
    if cost is None:
        return "an unknown cost"
    return f"a relative cost of {cost}" if cost.is_relative else str(cost)
