"""`describe_gateway`: which gateway this is, what can be asked for there, the caps, and what was spent."""

from __future__ import annotations

from collections.abc import Iterator

from sora_mcp.core.cost import RELATIVE, Cost
from sora_mcp.core.description import Description, OfferedModel
from sora_mcp.core.models import Model, ModelName
from sora_mcp.studio import Studio
from sora_mcp.tools.agent_wording import FOR_AGENTS
from sora_mcp.tools.caller import Caller
from sora_mcp.tools.offers import render_model, render_offers
from sora_mcp.tools.published import PublishedDescription
from sora_mcp.tools.sentences import format_cost, format_other_costs
from sora_mcp.tools.tool import Tool
from sora_mcp.tools.wording import Wording


class DescribeGateway(Model):
    """Arguments of `describe_gateway`."""

    model: ModelName | None = None


async def _run(studio: Studio, arguments: DescribeGateway, _: Caller) -> Description:
    return await studio.describe(arguments.model)


def render_description(description: Description, wording: Wording = FOR_AGENTS) -> str:
    """Render what a gateway offers, what was spent there, and what is wrong."""
    implied = ", inferred from the address" if description.is_dialect_implied else ""
    facts = (
        f"Gateway: {description.gateway} ({_STATUS[description.status]}; dialect {description.dialect}{implied}).",
        description.notice or "",
        description.explanation or "",
        *(wording.message(each) for each in description.problems),
        wording.advise(*description.advice),
        *_operations(description),
        *(sentence for offer in description.models for sentence in _offer(offer)),
        *render_offers(description.offers, wording),
        *(description.rules or []),
        f"Variants per call: at most {description.max_variants}; each costs extra.",
        *_spent(description),
        _caps(description.caps),
    )
    return wording.separator.join(filter(None, facts))


_STATUS = {
    "ok": "it answers",
    "key_refused": "it refuses the key; what follows does not come from it",
    "unreachable": "it cannot be reached now; what follows does not come from it",
    "trouble": "it does not answer as it should; what follows does not come from it",
    "not_asked": "it was not asked; what follows does not come from it",
    "not_configured": "nothing can be made; what follows is what the dialect accepts",
}
_BECOMES = {
    "exact": "are sent exactly as documented",
    "lowered": "are written into the prompt",
    "by_reference": "send their source along as a reference",
    "bridged": "send the last and first frames of their sources",
    "impossible": "are refused here",
}


def _operations(description: Description) -> Iterator[str]:
    for support, verbs in description.operations.items():
        names = f"{', '.join(verbs[:-1])} and {verbs[-1]}" if len(verbs) > 1 else verbs[0]
        yield f"{names.capitalize()} requests {_BECOMES[support]}."


def _offer(offer: OfferedModel) -> Iterator[str]:
    names = f" of model {', '.join(offer.names)}" if offer.names else ""
    has_costs = any(each.cost is not None for each in offer.sizes)
    sizes = [_with_price(f"{each.width}x{each.height}", each.cost, priced=has_costs) for each in offer.sizes]
    lengths = [
        _with_price(f"{each.n_frames} frames = {each.seconds:g} s", each.factor, "x", priced=has_costs)
        for each in offer.lengths
    ]
    if sizes:
        yield f"Sizes{names}{_RELATIVE if has_costs else ''}: {', '.join(sizes)}."
    if lengths:
        yield f"Lengths{' (cost factor)' if has_costs else names}: {', '.join(lengths)}."
    yield from render_model(offer)


_RELATIVE = " (relative cost)"


def _with_price(text: str, price: float | None, times: str = "", *, priced: bool) -> str:
    if not priced:
        return text
    return f"{text} (not known)" if price is None else f"{text} ({times}{price:g})"


def _spent(description: Description) -> Iterator[str]:
    spent = description.spent
    if spent is None:
        yield "What was spent is not known right now."
        return
    more = Cost.of(spent.uncertain, spent.unit or RELATIVE)
    maybe = f", and requests of unknown outcome may have cost {more} more" if spent.uncertain else ""
    money = "only the gateway knows what that is in money"
    if spent.unit is not None:
        money = "the gateway's own figures for finished videos, estimates for the others"
    money = "nothing was charged" if description.notice else money
    yield f"Counted in the last 24 hours: {format_cost(spent.cost, spent.unit)}{maybe} ({money})."
    if spent.unpriced:
        yield f"Requests without a known cost: {spent.unpriced}."
    if others := list(format_other_costs(spent.other_costs)):
        yield f"In other units: {', '.join(others)}."
    unknown = f", of unknown outcome: {spent.unknown}" if spent.unknown else ""
    yield f"Videos under way: {spent.under_way}{unknown}."


_CAPS = {
    "per_call": "{} per call",
    "per_day": "{} in 24 hours",
    "left_today": "{} of that left",
    "running": "at most {} under way or unknown at once",
    "places_left": "room for {} more now",
    "calls_per_day": "{} calls in 24 hours",
    "calls_left": "{} of them left",
    "ask_above": "the user is asked first above {}, where the host can ask",
    "team_per_day": "{} in 24 hours for the whole team",
    "team_running": "at most {} of the whole team under way or unknown at once",
    "team_calls_per_day": "{} calls in 24 hours for the whole team",
}


def _caps(caps: dict[str, float | str]) -> str:
    """Render the caps that are set."""
    if not caps:
        return "No caps are set."
    amounts = {name: value if isinstance(value, str) else f"{value:g}" for name, value in caps.items()}
    return f"Caps: {', '.join(_CAPS[name].format(value) for name, value in amounts.items())}."


DESCRIBE_GATEWAY = Tool(
    "describe_gateway",
    "Describe the gateway",
    "Describe the gateway that makes the videos, or the sandbox (drawn placeholders, free). Returns models, sizes, "
    "lengths, how each operation is sent, caps, and the last day's spending. Use it to learn what is possible, what it "
    "cost, or why a picture lacks what was asked for; for videos use list_videos. Free.",
    DescribeGateway,
    PublishedDescription,
    _run,
    render_description,
    examples=({},),
)
