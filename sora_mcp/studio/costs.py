"""Costs as the settings limit them, and as results report them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from sora_mcp.config.settings import Settings
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.cost import Costs, Unit, sum_in_unit
from sora_mcp.core.results import OtherCost
from sora_mcp.core.spending import SpendingPolicy, TeamCaps


def spending_policy(settings: Settings, capabilities: Capabilities, *, allow_duplicate: bool = False) -> SpendingPolicy:
    """Return the spending policy of the settings, at a gateway with these prices."""
    policy = SpendingPolicy(
        duplicate_window_s=0 if allow_duplicate else settings.duplicate_window * 60,
        per_day=settings.max_cost_per_day,
        running=settings.max_running,
        per_call=settings.max_cost_per_call,
        ask_above=settings.ask_above_cost,
        calls_per_day=settings.max_calls_per_day,
        unit=capabilities.unit if capabilities.has_prices else None,
    )
    if not settings.is_shared:
        return policy
    team = TeamCaps(policy.per_day, policy.running, policy.calls_per_day)
    return replace(policy, per_day=settings.personal_cap, running=None, calls_per_day=None, team=team)


def cost_fields(spent: Costs, uncertain: Costs, unit: Unit) -> dict[str, Any]:
    """Return the fields of a result for what was spent and may have been, in the gateway's unit and in others."""
    units = dict.fromkeys(each.unit for each in (*spent, *uncertain) if each.unit != unit and each.billionths)
    others = [
        OtherCost(
            unit=other, cost=sum_in_unit(spent, other).amount, uncertain=sum_in_unit(uncertain, other).amount or None
        )
        for other in units
    ]
    return {
        "cost": sum_in_unit(spent, unit).amount,
        "uncertain": sum_in_unit(uncertain, unit).amount,
        "unit": sum_in_unit((), unit).currency,
        "other_costs": others or None,
    }
