"""Spending: what is a duplicate, what the caps allow, and what the user is asked about. Pure: the ledger counts.

Costs are relative (the price table of core.tables), times unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sora_mcp.core.errors import MOST_NAMED, NoPrices, OverCap, OverDailyCap, TooManyCalls, TooManyRunning
from sora_mcp.core.states import OPEN
from sora_mcp.core.tasks import State

WINDOW_S = 86_400
"""The caps look back so many seconds: a day."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier request for the same thing, at the same gateway and of the same owner.

    `succeeded_at`: when it last became a success, None where it never did.
    """

    request_id: str
    state: State
    created_at: float
    succeeded_at: float | None = None


@dataclass(frozen=True, slots=True)
class OpenVideo:
    """A video that is under way, or may be; `id` is the one to show."""

    id: str
    state: State


@dataclass(frozen=True, slots=True)
class Spending:
    """What an account spent within the window.

    `spent`: the cost of what was submitted and not refused. `uncertain`: what requests of unknown outcome may have
    cost. `running`: videos under way or unknown, newest first; what is being sent counts whenever it was begun.
    `calls`: requests that were submitted and not refused.
    """

    spent: float = 0
    uncertain: float = 0
    running: tuple[OpenVideo, ...] = ()
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger knows of an intent at the moment in which it is decided about.

    `same`: earlier requests for the same thing that are open or succeeded, newest first.
    """

    now: float
    same: tuple[Earlier, ...] = ()
    spending: Spending = Spending()


@dataclass(frozen=True, slots=True)
class SpendingPolicy:
    """The user's rules. A cap of None does not hold.

    `duplicate_window_s`: seconds after its success in which the same request is a duplicate; with 0 nothing is one.
    `per_call` and `per_day` bound costs, `calls_per_day` the number of requests, `running` that of videos under way
    or unknown; `ask_above`: the user is asked about what costs more. `has_prices`: the gateway's are known. Where they
    are not, the caps on costs cannot hold: nothing may be paid then, unless there is a cap on calls.
    """

    duplicate_window_s: float = 0
    per_day: float | None = None
    running: int | None = None
    per_call: float | None = None
    ask_above: float | None = None
    calls_per_day: int | None = None
    has_prices: bool = True

    @property
    def has_duplicates(self) -> bool:
        """Whether anything can be a duplicate, so that earlier requests for the same thing must be known."""
        return self.duplicate_window_s > 0

    @property
    def has_caps(self) -> bool:
        """Whether what was spent, and what is running, must be known."""
        return not (self.per_day is None and self.running is None and self.calls_per_day is None)

    @property
    def _bounds_costs(self) -> bool:
        return self.has_prices or self.calls_per_day is None

    def check_call(self, cost: float | None) -> None:
        """Raise OverCap for a call that alone costs too much, or may."""
        cap = self.per_call
        if not self.has_prices and self.calls_per_day is None:
            self._check_prices()
        if cap is not None and self._bounds_costs and (cost is None or cost > cap):
            wanted = "an unknown relative cost" if cost is None else f"a relative cost of {cost:g}"
            raise OverCap("max_cost_per_call", cap, f"This call has {wanted}")

    def asks_about(self, cost: float | None) -> bool:
        """Whether the user is asked before a call of this cost is paid."""
        return self.ask_above is not None and (cost is None or cost > self.ask_above)

    def decide(self, cost: float | None, standing: Standing) -> str | None:
        """The request of which this one is a duplicate; None where it may be paid. Raises OverCap where it may not."""
        duplicate = next(self._duplicates(standing), None)
        if duplicate is not None:
            return duplicate.request_id
        self._check_running(standing.spending)
        self._check_calls(standing.spending)
        self._check_day(cost, standing.spending)
        return None

    def _check_prices(self) -> None:
        caps = {"max_cost_per_call": self.per_call, "max_cost_per_day": self.per_day}
        for name, cap in caps.items():
            if cap is not None:
                raise NoPrices(name, cap)

    def _check_calls(self, spending: Spending) -> None:
        if self.calls_per_day is not None and spending.calls >= self.calls_per_day:
            raise TooManyCalls(self.calls_per_day, spending.calls)

    def _duplicates(self, standing: Standing) -> Iterator[Earlier]:
        """What is open, however old it is, and what succeeded within the window (or was made within it)."""
        if not self.duplicate_window_s:
            return
        since = standing.now - self.duplicate_window_s
        for earlier in standing.same:
            is_recent = max(earlier.created_at, earlier.succeeded_at or earlier.created_at) > since
            if earlier.state in OPEN or (earlier.state == "succeeded" and is_recent):
                yield earlier

    def _check_running(self, spending: Spending) -> None:
        if self.running is not None and len(spending.running) >= self.running:
            raise TooManyRunning(self.running, [(video.id, video.state) for video in spending.running])

    def _check_day(self, cost: float | None, spending: Spending) -> None:
        if self.per_day is None or not self._bounds_costs:
            return
        if cost is None or spending.spent + spending.uncertain + cost > self.per_day:
            unknown = [video.id for video in spending.running if video.state == "unknown"]
            raise OverDailyCap(self.per_day, spending.spent, spending.uncertain, cost, unknown[:MOST_NAMED])


NO_POLICY = SpendingPolicy()
"""Everything may be paid, and nothing is a duplicate."""
