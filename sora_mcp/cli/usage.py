"""`sora-mcp usage`: what was spent by day, by operation and by gateway, as tables or as one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import click

from sora_mcp.cli.output import print_json
from sora_mcp.cli.studios import in_studio
from sora_mcp.config.settings import Settings
from sora_mcp.core.capabilities import verb_of
from sora_mcp.core.cost import RELATIVE, Cost
from sora_mcp.core.results import OtherCost, UsageGroup, UsageReport


def show(settings: Settings, days: int, *, as_json: bool) -> None:
    """Print what was spent in so many days. Raises SoraError."""
    report = in_studio(settings, lambda studio: studio.usage(days))
    if as_json:
        print_json(report.model_dump(mode="json", exclude_none=True))
    else:
        click.echo("\n".join(_lines(report, "this machine's time zone" if settings.ledger_url is None else "UTC")))


def _lines(report: UsageReport, clock: str) -> Iterator[str]:
    if not report.gateways:
        yield f"Nothing was submitted since {report.since}."
        return
    yield f"Since {report.since}, in {clock}."
    is_one_place = {group.gateway for group in report.gateways} == {report.gateway}
    yield ""
    yield from _table("DAY", report.days, lambda group: group.day, is_one_place=is_one_place)
    yield ""
    yield from _table("OPERATION", report.operations, _operation, is_one_place=is_one_place)
    yield ""
    yield from _table("GATEWAY", report.gateways, lambda group: group.gateway, is_one_place=True)
    if report.owners is not None:
        yield ""
        yield from _table("OWNER", report.owners, lambda group: group.owner or "-", is_one_place=is_one_place)


def _operation(group: UsageGroup) -> str:
    return "made elsewhere" if group.operation is None else verb_of(group.operation)


def _table(
    title: str, groups: Sequence[UsageGroup], name: Callable[[UsageGroup], str | None], *, is_one_place: bool
) -> Iterator[str]:
    """One table; whose gateway differs from another's stands in a column of its own."""
    places = [] if is_one_place else ["GATEWAY"]
    rows = [[title, *places, "VIDEOS", "COST", ""]]
    for group in groups:
        place = [] if is_one_place else [group.gateway]
        rows.append([name(group) or "", *place, f"{group.videos:,}", _cost(group), _besides(group)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    number = len(rows[0]) - 3
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[number] = row[number].rjust(widths[number])
        yield "  ".join(cells).rstrip()


def _cost(group: UsageGroup) -> str:
    """What it cost, each unit apart."""
    spent = [_amount(cost.cost, cost) for cost in group.costs if cost.cost]
    return " + ".join(spent) or ("not known" if group.unpriced else "0")


def _besides(group: UsageGroup) -> str:
    """What is not known of it."""
    parts = [f"{group.unpriced:,} without a known cost"] if group.unpriced and group.costs else []
    if group.unknown:
        perhaps = " + ".join(_amount(cost.uncertain, cost) for cost in group.costs if cost.uncertain)
        parts.append(f"{group.unknown:,} unknown" + (f": perhaps {perhaps} more" if perhaps else ""))
    return "; ".join(parts)


def _amount(amount: float, cost: OtherCost) -> str:
    return f"{amount:g} relative" if cost.unit == RELATIVE else str(Cost.of(amount, cost.unit))
