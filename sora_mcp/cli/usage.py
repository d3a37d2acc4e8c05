"""`sora-mcp usage`: what was spent by day, by operation and by gateway, as tables or as one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import click

from sora_mcp.cli.output import print_json
from sora_mcp.cli.studios import run_in_studio
from sora_mcp.config.settings import Settings
from sora_mcp.core.capabilities import verb_of
from sora_mcp.core.cost import RELATIVE, Cost
from sora_mcp.core.results import OtherCost, UsageGroup, UsageReport


def show(settings: Settings, days: int, *, as_json: bool) -> None:
    """Print what was spent in the last `days` days. Raise SoraError."""
    report = run_in_studio(settings, lambda studio: studio.usage(days))
    if as_json:
        print_json(report.model_dump(mode="json", exclude_none=True))
    else:
        click.echo(
            "\n".join(_render_report(report, "this machine's time zone" if settings.ledger_url is None else "UTC"))
        )


def _render_report(report: UsageReport, time_zone: str) -> Iterator[str]:
    if not report.gateways:
        yield f"Nothing was submitted since {report.since}."
        return
    yield f"Since {report.since}, in {time_zone}."
    is_single_gateway = {group.gateway for group in report.gateways} == {report.gateway}
    yield ""
    yield from _render_table("DAY", report.days, lambda group: group.day, is_single_gateway=is_single_gateway)
    yield ""
    yield from _render_table("OPERATION", report.operations, _operation_name, is_single_gateway=is_single_gateway)
    yield ""
    yield from _render_table("GATEWAY", report.gateways, lambda group: group.gateway, is_single_gateway=True)
    if report.owners is not None:
        yield ""
        yield from _render_table(
            "OWNER", report.owners, lambda group: group.owner or "-", is_single_gateway=is_single_gateway
        )


def _operation_name(group: UsageGroup) -> str:
    return "made elsewhere" if group.operation is None else verb_of(group.operation)


def _render_table(
    title: str, groups: Sequence[UsageGroup], name: Callable[[UsageGroup], str | None], *, is_single_gateway: bool
) -> Iterator[str]:
    """Render one table, with a column for the gateway unless there is only one."""
    gateway_header = [] if is_single_gateway else ["GATEWAY"]
    rows = [[title, *gateway_header, "VIDEOS", "COST", ""]]
    for group in groups:
        gateway_cell = [] if is_single_gateway else [group.gateway]
        rows.append(
            [name(group) or "", *gateway_cell, f"{group.videos:,}", _format_cost(group), _format_uncertainty(group)]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    videos_column = len(rows[0]) - 3
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[videos_column] = row[videos_column].rjust(widths[videos_column])
        yield "  ".join(cells).rstrip()


def _format_cost(group: UsageGroup) -> str:
    """Return the known costs, one for each unit."""
    spent = [_format_amount(cost.cost, cost) for cost in group.costs if cost.cost]
    return " + ".join(spent) or ("not known" if group.unpriced else "0")


def _format_uncertainty(group: UsageGroup) -> str:
    """Return what is not known about the costs."""
    parts = [f"{group.unpriced:,} without a known cost"] if group.unpriced and group.costs else []
    if group.unknown:
        uncertain = " + ".join(_format_amount(cost.uncertain, cost) for cost in group.costs if cost.uncertain)
        parts.append(f"{group.unknown:,} unknown" + (f": perhaps {uncertain} more" if uncertain else ""))
    return "; ".join(parts)


def _format_amount(amount: float, cost: OtherCost) -> str:
    return f"{amount:g} relative" if cost.unit == RELATIVE else str(Cost.of(amount, cost.unit))
