"""A list as text: totals, the result of a wait, which videos these are, and why there are none."""

from __future__ import annotations

from collections.abc import Mapping

from sora_mcp.core.cost import RELATIVE, Cost
from sora_mcp.core.results import Filters, VideoList
from sora_mcp.core.states import describe_state
from sora_mcp.core.tasks import State, quoted
from sora_mcp.tools.agent_wording import FOR_AGENTS
from sora_mcp.tools.sentences import describe_usual_time, format_cost, format_other_costs
from sora_mcp.tools.wording import Wording

_ORDER: tuple[State, ...] = (
    *("succeeded", "running", "queued", "submitted", "sending"),
    *("failed", "blocked", "lost", "rejected", "unknown"),
)


def render_list(listing: VideoList, wording: Wording = FOR_AGENTS) -> str:
    """Render everything about a list except its lines."""
    more = wording.more() if listing.next_cursor else ""
    parts = [
        _describe_totals(listing),
        _describe_wait(listing),
        _describe_selection(listing) if listing.videos else "" if listing.damaged else _describe_empty(listing),
        *([] if listing.videos or not listing.elsewhere else [_describe_other_gateways(listing.elsewhere)]),
        more,
        wording.advise(*listing.advice),
    ]
    return " ".join(part for part in parts if part)


def _describe_totals(listing: VideoList) -> str:
    """Describe how many there are in each state, and what they cost."""
    counts = listing.counts or {}
    number = sum(counts.values())
    if not number:
        return f"No videos at {listing.gateway} yet."
    states = ", ".join(f"{counts[state]:,} {state}" for state in _ORDER if counts.get(state))
    costs = [format_cost(listing.cost or 0, listing.unit)]
    if listing.uncertain_cost:
        maybe = Cost.of(listing.uncertain_cost, listing.unit or RELATIVE)
        costs.append(f"perhaps {maybe} more for those with an unknown outcome")
    costs += [f"in other units {words}" for words in format_other_costs(listing.other_costs)]
    if listing.unpriced:
        costs.append(f"no known cost for {listing.unpriced:,}")
    return f"{_count_videos(number)} at {listing.gateway}: {states}; {', '.join(costs)}."


def _describe_wait(listing: VideoList) -> str:
    """Describe the result of the wait, else how long videos under way usually take."""
    usual = f"A video {describe_usual_time(listing.usual_seconds)}." if listing.advice else ""
    if listing.waited_for is None:
        return usual
    if not listing.waited_for:
        return "Nothing was under way." if listing.filters.query is None else "None that match were under way."
    if listing.finished == listing.waited_for:
        one = "The one that was under way has finished."
        return one if listing.waited_for == 1 else "All that were under way have finished."
    return f"{listing.finished} of the {listing.waited_for} that were under way have finished. {usual}".rstrip()


def _describe_selection(listing: VideoList) -> str:
    """Describe which videos these are."""
    filters = listing.filters
    older = " older" if filters.is_continued else ""
    text = f" with {quoted(filters.query)} in the prompt" if filters.query is not None else ""
    state = f" in state {', '.join(filters.states)}" if filters.states else ""
    return f"Shown: {len(listing.videos)}{older}{text}{state}, newest first."


def _describe_empty(listing: VideoList) -> str:
    """Describe why none are listed although there are videos."""
    if not listing.counts:
        return ""
    conditions = " and ".join(_conditions(listing.filters))
    if listing.next_cursor:  # the search covered only some
        return f"None of those searched so far {conditions}."
    if listing.filters.is_continued:
        return f"None of the older ones {conditions}." if conditions else "There are no older ones."
    return f"None of them {conditions}."


def _conditions(filters: Filters) -> list[str]:
    has = [] if filters.query is None else [f"has {quoted(filters.query)} in its prompt or beats"]
    return [*has, *([" or ".join(map(describe_state, filters.states))] if filters.states else [])]


def _describe_other_gateways(counts: Mapping[str, int]) -> str:
    """Describe at which gateways the same owner has other videos."""
    places = [f"{count:,} more of yours at {name}" for name, count in counts.items()]
    return f"There {'is' if next(iter(counts.values())) == 1 else 'are'} {', '.join(places)}."


def _count_videos(number: int) -> str:
    return f"{number:,} video{'' if number == 1 else 's'}"
