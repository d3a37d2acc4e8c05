"""Lists of videos: after asking the gateway, or as the ledger has them."""

from __future__ import annotations

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.results import VideoList
from sora_mcp.core.tasks import State
from sora_mcp.ledger import Ledger
from sora_mcp.studio import report
from sora_mcp.studio.connector import NOT_CONFIGURED, Connector
from sora_mcp.studio.poller import Poller


class Lists:
    """The caller's videos, newest first. All methods raise SoraError and nothing else."""

    def __init__(self, ledger: Ledger, connector: Connector, poller: Poller) -> None:
        self._ledger = ledger
        self._connector = connector
        self._poller = poller

    async def page(self, *, states: tuple[State, ...] = (), limit: int = 20, cursor: str | None = None) -> VideoList:
        """One page, after the newest unfinished ones were asked about; see `Studio.list_videos`."""
        connection = await self._connector.connect()
        before = _read_cursor(cursor)
        await self._poller.refresh_unfinished(connection)
        entries = await self._ledger.page(connection.account, limit=limit + 1, before=before, states=states)
        page, more = entries[:limit], len(entries) > limit
        return VideoList(
            gateway=connection.label,
            videos=[report.listed(entry) for entry in page],
            next_cursor=str(page[-1].number) if more else None,
        )

    async def recent(self, *, limit: int, states: tuple[State, ...] = ()) -> VideoList:
        """The newest as the ledger has them; see `Studio.recent`."""
        if not self._ledger.exists() or self._connector.label == NOT_CONFIGURED:
            return VideoList(gateway=self._connector.label, videos=[])
        entries = await self._ledger.page((await self._connector.connect()).account, limit=limit, states=states)
        return VideoList(gateway=self._connector.label, videos=[report.listed(entry) for entry in entries])


def _read_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise InvalidInput([Problem("cursor", "is not a cursor", "next_cursor of an earlier answer")])
    return int(cursor)
