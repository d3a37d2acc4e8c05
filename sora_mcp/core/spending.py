"""Spending: what is a duplicate, what the caps allow, and what the user is asked about. Pure: the ledger counts.

A cap on costs applies to costs in its own unit; if the gateway's are in another, it refuses. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field

from sora_mcp.core.caps import (
    PERSONAL,
    CostsNotKnown,
    NoPrices,
    OtherUnit,
    OverCallCap,
    OverCap,
    OverDailyCap,
    TooManyCalls,
    TooManyRunning,
)
from sora_mcp.core.cost import RELATIVE, Cost, Costs, Unit, sum_in_unit
from sora_mcp.core.errors import MAX_NAMED
from sora_mcp.core.records import display_id
from sora_mcp.core.states import OPEN
from sora_mcp.core.tasks import State

WINDOW_S = 86_400
"""Seconds that the caps look back: a day."""


class EarlierRequest(Struct, frozen=True):
    """An earlier request for the same thing, at the same gateway and by the same owner.

    `succeeded_at`: when it last became a success, or None if it never did.
    """

    request_id: str
    state: State
    created_at: float
    succeeded_at: float | None = None


class OpenVideo(Struct, frozen=True):
    """A video that is under way, or may be."""

    request_id: str
    state: State
    task_id: str | None = None

    @property
    def id(self) -> str:
        """The id to show."""
        return display_id(self.request_id, self.task_id)


class Spending(Struct, frozen=True):
    """What an account spent within the window.

    `spent`: the cost of what was submitted and not refused, by the gateway's own figure if it has finished, else by the
    estimate. `uncertain`: what requests of unknown outcome may have cost. `running`: videos under way or unknown,
    newest first; one that is being sent counts however old it is. `calls`: requests that were submitted and not
    refused; `priced`: how many of them have a cost, by its unit.
    """

    spent: Costs = ()
    uncertain: Costs = ()
    running: tuple[OpenVideo, ...] = ()
    calls: int = 0
    priced: Mapping[Unit, int] = field(default_factory=dict)


class SpendingContext(Struct, frozen=True):
    """What the ledger knows of an intent when it is decided about.

    `earlier`: earlier requests for the same thing that are open or succeeded, newest first. `team`: what all users of
    the server spent together.
    """

    now: float
    earlier: tuple[EarlierRequest, ...] = ()
    spending: Spending = Spending()
    team: Spending = Spending()


class TeamCaps(Struct, frozen=True):
    """What all users of a server may spend together. None: no cap."""

    per_day: Cost | None = None
    running: int | None = None
    calls_per_day: int | None = None

    def check(self, cost: Cost | None, spending: Spending, *, bounds_costs: bool = True) -> None:
        """Raise OverTeamCap if a cap is reached. `bounds_costs`: a cap on costs can be enforced here."""
        from sora_mcp.core import team_caps  # noqa: PLC0415 - most servers have one person

        if self.running is not None and len(spending.running) >= self.running:
            raise team_caps.TeamTooManyRunning(self.running, len(spending.running))
        if self.calls_per_day is not None and spending.calls >= self.calls_per_day:
            raise team_caps.TeamTooManyCalls(self.calls_per_day, spending.calls)
        if self.per_day is None or not bounds_costs:
            return
        if _unpriced(self.per_day, spending):
            raise team_caps.TeamCostsNotKnown(self.per_day)
        unit = self.per_day.unit
        spent, known = (
            sum_in_unit(spending.spent, unit) + sum_in_unit(spending.uncertain, unit),
            _comparable(cost, unit),
        )
        if known is None or spent + known > self.per_day:
            raise team_caps.TeamOverDailyCap(self.per_day, spent, known)


class SpendingPolicy(Struct, frozen=True):
    """The user's rules. None: no cap.

    `duplicate_window_s`: seconds after a success in which the same request is a duplicate; with 0 nothing is one.
    `per_call` and `per_day` bound costs, `calls_per_day` the number of requests, `running` the number of videos under
    way or unknown; the user is asked about costs above `ask_above`. `unit`: that of the gateway's prices, None if none
    are known. Then caps on costs cannot be enforced, and nothing may be paid unless there is a cap on calls. A cap in
    another unit cannot be enforced either, whatever other caps there are. `team`: what the users of a shared server may
    spend together; `per_day`, `running` and `calls_per_day` are then those of one user.
    """

    duplicate_window_s: float = 0
    per_day: Cost | None = None
    running: int | None = None
    per_call: Cost | None = None
    ask_above: Cost | None = None
    calls_per_day: int | None = None
    unit: Unit | None = RELATIVE
    team: TeamCaps | None = None

    @property
    def has_duplicates(self) -> bool:
        """Whether anything can be a duplicate, so that earlier requests for the same thing must be known."""
        return self.duplicate_window_s > 0

    @property
    def has_caps(self) -> bool:
        """Whether any cap is set, so that what was spent and what is running must be known."""
        return not (self.per_day is None and self.running is None and self.calls_per_day is None)

    @property
    def has_team_caps(self) -> bool:
        """Whether any team cap is set, so that what the whole team spent must be known."""
        return self.team is not None and self.team != TeamCaps()

    @property
    def _bounds_costs(self) -> bool:
        return self.unit is not None or not self._counts_calls

    @property
    def _counts_calls(self) -> bool:
        return self.calls_per_day is not None or (self.team is not None and self.team.calls_per_day is not None)

    @property
    def _caps_on_costs(self) -> dict[str, Cost | None]:
        """The caps on costs, by the names of their settings."""
        caps = {"max_cost_per_call": self.per_call}
        if self.team is None:
            return caps | {"max_cost_per_day": self.per_day}
        return caps | {"max_cost_per_day": self.team.per_day, PERSONAL: self.per_day}

    def check_units(self) -> None:
        """Raise OverCap if a cap is in another unit than the gateway's prices, so that nothing may be paid."""
        for name, cap in (self._caps_on_costs | {"ask_above_cost": self.ask_above}).items():
            if cap is not None and self.unit not in {None, cap.unit}:
                raise OtherUnit(name, cap, str(self.unit))

    def check_call(self, cost: Cost | None) -> None:
        """Raise OverCap if this call alone costs too much, or may."""
        self.check_units()
        if self.unit is None and not self._counts_calls:
            self._check_prices()
        cap = self.per_call
        if cap is not None and self._bounds_costs and ((known := _comparable(cost, cap.unit)) is None or known > cap):
            raise OverCallCap(cap, known)

    def asks_about(self, cost: Cost | None) -> bool:
        """Whether the user is asked before a call of this cost is paid."""
        limit = self.ask_above
        return limit is not None and ((known := _comparable(cost, limit.unit)) is None or known > limit)

    def check_sum(self, costs: Sequence[Cost | None], spending: Spending) -> None:
        """Raise OverCap if calls of these costs may not all be paid within the window."""
        self._check_calls(spending, len(costs))
        if (cap := self.per_day) is not None and costs:
            self._check_day(_sum(costs, cap.unit), spending)

    def asks_about_sum(self, costs: Sequence[Cost | None]) -> bool:
        """Whether the user is asked before calls of these costs are paid together."""
        return bool(costs) and self.ask_above is not None and self.asks_about(_sum(costs, self.ask_above.unit))

    def decide(self, cost: Cost | None, context: SpendingContext) -> str | None:
        """Return the id of the request that this one duplicates, or None if it may be paid. Raises OverCap if it may
        not."""
        duplicate = next(self._duplicates(context), None)
        if duplicate is not None:
            return duplicate.request_id
        self._check_running(context.spending)
        self._check_calls(context.spending)
        self._check_day(cost, context.spending)
        if self.team is not None:
            self.team.check(cost, context.team, bounds_costs=self._bounds_costs)
        return None

    def reached_caps(self, spending: Spending) -> list[str]:
        """Return the names of the settings whose caps allow no further call, however little it costs."""
        minimum = None if self.per_day is None else Cost(1, self.per_day.unit)
        checks: dict[str, Callable[[], None]] = {
            "max_cost_per_day": lambda: self._check_day(minimum, spending),
            "max_running": lambda: self._check_running(spending),
            "max_calls_per_day": lambda: self._check_calls(spending),
        }
        return [name for name, check in checks.items() if _refuses(check)]

    def _check_prices(self) -> None:
        for name, cap in self._caps_on_costs.items():
            if cap is not None:
                raise NoPrices(name, cap)

    def _check_calls(self, spending: Spending, wanted: int = 1) -> None:
        if self.calls_per_day is not None and spending.calls + wanted > self.calls_per_day:
            raise TooManyCalls(self.calls_per_day, spending.calls, wanted)

    def _duplicates(self, context: SpendingContext) -> Iterator[EarlierRequest]:
        """Yield requests that are open, however old, and those that succeeded or were made within the window."""
        if not self.duplicate_window_s:
            return
        since = context.now - self.duplicate_window_s
        for earlier in context.earlier:
            is_recent = max(earlier.created_at, earlier.succeeded_at or earlier.created_at) > since
            if earlier.state in OPEN or (earlier.state == "succeeded" and is_recent):
                yield earlier

    def _check_running(self, spending: Spending) -> None:
        if self.running is not None and len(spending.running) >= self.running:
            raise TooManyRunning(self.running, [(video.id, video.state) for video in spending.running])

    def _check_day(self, cost: Cost | None, spending: Spending) -> None:
        cap = self.per_day
        if cap is None or not self._bounds_costs:
            return
        field = "max_cost_per_day" if self.team is None else PERSONAL
        if unpriced := _unpriced(cap, spending):
            raise CostsNotKnown(cap, unpriced, field)
        spent, uncertain = sum_in_unit(spending.spent, cap.unit), sum_in_unit(spending.uncertain, cap.unit)
        known = _comparable(cost, cap.unit)
        if known is None or spent + uncertain + known > cap:
            unknown = [video.id for video in spending.running if video.state == "unknown"]
            raise OverDailyCap(cap, spent, uncertain, known, unknown[:MAX_NAMED], field=field)


def _refuses(check: Callable[[], None]) -> bool:
    try:
        check()
    except OverCap:
        return True
    return False


def _unpriced(cap: Cost, spending: Spending) -> int:
    """Return how many calls have no cost that can be compared with a cap in a currency."""
    return 0 if cap.is_relative else max(0, spending.calls - spending.priced.get(cap.unit, 0))


def _comparable(cost: Cost | None, unit: Unit) -> Cost | None:
    """Return a cost if it can be compared with a cap in this unit (in a currency, only above 0), else None."""
    if cost is None or cost.unit != unit or not (cost.is_relative or cost.billionths):
        return None
    return cost


def _sum(costs: Iterable[Cost | None], unit: Unit) -> Cost | None:
    """Add up costs in a unit; None if one of them is not known in it."""
    known = [_comparable(cost, unit) for cost in costs]
    amounts = [cost.billionths for cost in known if cost is not None]
    return Cost(sum(amounts), unit) if len(amounts) == len(known) else None


NO_POLICY = SpendingPolicy()
"""Everything may be paid, and nothing is a duplicate."""
