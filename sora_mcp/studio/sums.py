"""Sums over many videos: whether a batch may be paid, and what was spent by day, operation and gateway."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from sora_mcp.config.endpoint import label_of
from sora_mcp.config.settings import Settings
from sora_mcp.core.cost import Cost, sum_in_unit
from sora_mcp.core.records import RecordedLine, Usage, UsageKey
from sora_mcp.core.results import OtherCost, UsageGroup, UsageReport
from sora_mcp.ledger import Ledger
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.costs import spending_policy


class Sums:
    """Adds up lines of a batch, or videos of some days. All methods raise SoraError and nothing else."""

    def __init__(self, settings: Settings, ledger: Ledger, connector: Connector) -> None:
        self._settings = settings
        self._ledger = ledger
        self._connector = connector

    async def lines(self, keys: Sequence[str]) -> dict[str, RecordedLine]:
        """See `Studio.lines`."""
        upstream = await self._connector.connect()
        return await self._ledger.lines(upstream.account, keys)

    async def check(self, costs: Sequence[Cost | None]) -> bool:
        """See `Studio.check_sum`."""
        upstream = await self._connector.connect()
        policy = spending_policy(self._settings, self._connector.dialect.capabilities)
        policy.check_sum(costs, await self._ledger.spending(upstream.account))
        return policy.asks_about_sum(costs)

    async def usage(self, days: int) -> UsageReport:
        """See `Studio.usage`."""
        zone = None if self._settings.ledger_url is None else UTC  # None: this machine's; servers may be in several
        first = datetime.fromtimestamp(self._ledger.now(), zone).date() - timedelta(days=days - 1)
        since = datetime.combine(first, time(), zone).timestamp()  # midnight, whatever the clocks did since
        return UsageReport(
            gateway=self._connector.label,
            since=first.isoformat(),
            days=await self._groups(("address", "day"), since),
            operations=await self._groups(("address", "operation"), since),
            gateways=await self._groups(("address",), since),
            owners=await self._owners(since),
        )

    async def _owners(self, since: float) -> list[UsageGroup] | None:
        """Return what each owner spent, unless one is configured, if there are or may be several."""
        if self._settings.owner is not None:
            return None
        owners = await self._groups(("address", "owner"), since)
        return owners if self._settings.auth or any(group.owner for group in owners) else None

    async def _groups(self, by: tuple[UsageKey, ...], since: float) -> list[UsageGroup]:
        """Return the groups in order: this gateway first, the newest day first, operations by name."""
        if not self._ledger.exists():
            return []
        groups = [_group(by, usage) for usage in await self._ledger.usage(self._settings.owner, by, since)]
        groups.sort(key=lambda group: (group.owner or "", group.operation or ""))
        groups.sort(key=lambda group: group.day or "", reverse=True)
        groups.sort(key=lambda group: (group.gateway != self._connector.label, group.gateway))
        return groups


def _group(by: Sequence[UsageKey], usage: Usage) -> UsageGroup:
    names: dict[str, Any] = dict(zip(by, usage.group, strict=True))
    units = dict.fromkeys(cost.unit for cost in (*usage.spent, *usage.uncertain))
    costs = [
        OtherCost(
            unit=unit,
            cost=sum_in_unit(usage.spent, unit).amount,
            uncertain=sum_in_unit(usage.uncertain, unit).amount or None,
        )
        for unit in sorted(units)
    ]
    return UsageGroup(
        gateway=label_of(names.pop("address") or ""),
        videos=usage.videos,
        costs=costs,
        unpriced=usage.unpriced or None,
        unknown=usage.unknown or None,
        **names,
    )
