"""What several people who share a server may spend together, and what one of them is told of that."""

from __future__ import annotations

import pytest

from sora_mcp.config.settings import load
from sora_mcp.config.sharing import settings_for_owner
from sora_mcp.core.advice import RaiseCap, TellUser
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.caps import CostsNotKnown, NoPrices, OtherUnit, OverCap, OverDailyCap, OverTeamCap
from sora_mcp.core.cost import Cost
from sora_mcp.core.spending import OpenVideo, Spending, SpendingContext, SpendingPolicy, TeamCaps
from sora_mcp.core.team_caps import TeamCostsNotKnown
from sora_mcp.studio.costs import spending_policy
from sora_mcp.tools.agent_wording import FOR_AGENTS

FIVE = Cost.of(5, "USD")
OTHERS = Spending((Cost.of(4, "USD"),), (Cost.of("0.5", "USD"),), (OpenVideo("task_of_ben", "unknown"),), 7, {"USD": 7})


NOTHING = Spending()
PLAIN = Capabilities(sizes={}, lengths={})


def decide(policy: SpendingPolicy, own: Spending = NOTHING, team: Spending = OTHERS) -> None:
    policy.decide(Cost.of(1, "USD"), SpendingContext(0, (), own, team))


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        (TeamCaps(per_day=FIVE), "The team spent 4.50 USD in the last 24 hours, or may have, and this would add 1 USD"),
        (TeamCaps(running=1), "The team has 1 video under way, or may have"),
        (TeamCaps(calls_per_day=7), "The team submitted 7 videos in the last 24 hours"),
    ],
)
def test_the_refusal_of_a_teams_cap_tells_a_sum_and_nothing_else(caps: TeamCaps, words: str) -> None:
    with pytest.raises(OverTeamCap) as refused:
        decide(SpendingPolicy(unit="USD", team=caps))
    assert refused.value.message.startswith(words)
    told = FOR_AGENTS.message(refused.value.parts) + FOR_AGENTS.next_step(refused.value)
    assert "task_" not in told
    assert "unknown" not in told
    assert any(isinstance(each, RaiseCap) for each in refused.value.advice)


def test_ones_own_cap_comes_first_and_names_no_setting() -> None:
    own = Spending((FIVE,), (), (), 2, {"USD": 2})
    with pytest.raises(OverDailyCap, match="and your cap for 24 hours allows 5 USD") as refused:
        decide(SpendingPolicy(per_day=FIVE, unit="USD", team=TeamCaps(per_day=FIVE)), own)
    assert any(isinstance(each, TellUser) for each in refused.value.advice)
    assert "SORA_" not in FOR_AGENTS.message(refused.value.parts) + FOR_AGENTS.next_step(refused.value)
    decide(SpendingPolicy(per_day=FIVE, unit="USD", team=TeamCaps()))


def test_a_persons_cap_in_another_unit_or_without_prices_cannot_hold() -> None:
    with pytest.raises(OtherUnit, match="Your cap for 24 hours is 5 USD"):
        SpendingPolicy(per_day=FIVE, team=TeamCaps()).check_call(Cost.of(1))
    with pytest.raises(NoPrices, match=r"so your cap for 24 hours \(5 USD\) cannot be enforced"):
        SpendingPolicy(per_day=FIVE, unit=None, team=TeamCaps()).check_call(None)
    SpendingPolicy(per_day=FIVE, unit=None, team=TeamCaps(calls_per_day=3)).check_call(None)
    with pytest.raises(OtherUnit):
        SpendingPolicy(team=TeamCaps(per_day=FIVE)).check_call(Cost.of(1))


def test_costs_that_are_not_known_are_beyond_the_teams_cap_as_beyond_ones_own() -> None:
    unpriced = Spending((), (), (), 3, {"USD": 1})
    with pytest.raises(TeamCostsNotKnown) as refused:
        decide(SpendingPolicy(unit="USD", team=TeamCaps(per_day=FIVE)), team=unpriced)
    assert "2" not in refused.value.message.replace("24 hours", "")
    with pytest.raises(CostsNotKnown):
        decide(SpendingPolicy(unit="USD", per_day=FIVE, team=TeamCaps()), unpriced, Spending())


def test_the_settings_caps_are_the_teams_once_people_share_a_server() -> None:
    settings = load({}, max_cost_per_day="9", max_running="3", max_calls_per_day="4", max_cost_per_owner="2")
    assert spending_policy(settings, PLAIN).team is None
    own = spending_policy(settings_for_owner(settings, "ann"), PLAIN)
    assert (own.per_day, own.running, own.calls_per_day) == (Cost.of(2), None, None)
    assert own.team == TeamCaps(Cost.of(9), 3, 4)
    assert spending_policy(settings_for_owner(settings, "ann", cap=Cost.of(1)), PLAIN).per_day == Cost.of(1)


def test_without_people_nothing_of_a_team_is_looked_at() -> None:
    assert not SpendingPolicy().has_team_caps
    assert not SpendingPolicy(team=TeamCaps()).has_team_caps
    assert SpendingPolicy(team=TeamCaps(running=1)).has_team_caps
    with pytest.raises(OverCap):
        SpendingPolicy(running=0).decide(None, SpendingContext(0))
