"""The errors of caps that all users of a server share.

Each reveals one sum of what the others did and nothing else: no ids, no names, no states.
"""

from __future__ import annotations

from sora_mcp.core.advice import Do
from sora_mcp.core.caps import OverTeamCap
from sora_mcp.core.cost import Cost
from sora_mcp.core.tasks import counted


class TeamOverDailyCap(OverTeamCap):
    """The team's daily cap would be exceeded, or may be: what may have been spent counts as spent."""

    def __init__(self, cap: Cost, spent: Cost, cost: Cost | None) -> None:
        wanted = "an unknown cost" if cost is None else str(cost)
        reached = f"The team spent {spent} in the last 24 hours, or may have, and this would add {wanted}"
        reached += " (relative cost)" if cap.is_relative else ""
        super().__init__("max_cost_per_day", cap, reached)


class TeamCostsNotKnown(OverTeamCap):
    """The cost of some of the team's calls of the day is not known in the cap's currency, so it cannot be enforced."""

    def __init__(self, cap: Cost) -> None:
        way_out = Do("Once a video has finished, it counts at the cost that the gateway states.")
        reached = f"Some of what the team spent in the last 24 hours is not known in {cap.unit}"
        super().__init__("max_cost_per_day", cap, reached, way_out)


class TeamTooManyRunning(OverTeamCap):
    """The team has as many videos under way, or may have, as the settings allow."""

    def __init__(self, cap: int, running: int) -> None:
        way_out = Do("Try again once some of them have finished.")
        reached = f"The team has {counted(running, 'video')} under way, or may have"
        super().__init__("max_running", cap, reached, way_out)


class TeamTooManyCalls(OverTeamCap):
    """The team has submitted as many videos within a day as the settings allow."""

    def __init__(self, cap: int, calls: int) -> None:
        super().__init__("max_calls_per_day", cap, f"The team submitted {counted(calls, 'video')} in the last 24 hours")
