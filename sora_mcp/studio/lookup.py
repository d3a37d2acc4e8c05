"""What the ids of sources refer to, according to the ledger and the gateway."""

from __future__ import annotations

from sora_mcp.core.advice import Do
from sora_mcp.core.errors import NotFound
from sora_mcp.core.tasks import Generation
from sora_mcp.ledger import Entry
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.poller import Poller

Source = tuple[Entry, Generation]
"""A generation, and the row of its video."""


class Lookup:
    """Finds the videos that a request is made from. `is_owned`: the caller sees only an owner's videos."""

    def __init__(self, connector: Connector, poller: Poller, *, is_owned: bool) -> None:
        self._connector = connector
        self._poller = poller
        self._is_owned = is_owned

    async def recorded(self, text: str, argument: str, allowed: str) -> Entry | None:
        """Return the row of a task, a request or a generation as the ledger has it; see `Poller.find_recorded`."""
        return await self._poller.find_recorded(await self._connector.connect(), text, argument, allowed)

    async def current(self, video_id: str, entry: Entry | None) -> Entry:
        """Return the row, queried at the gateway if unfinished; see `Poller.current`. Raises NotFound."""
        return await self._poller.current(await self._connector.connect(), video_id, entry)

    async def check_may_use(self, unrecorded_id: str) -> None:
        """Raise NotFound for a generation or an upload without a row if it is, or may be, another owner's."""
        await self._poller.check_may_ask(await self._connector.connect(), unrecorded_id)
        if self._is_owned:  # its owner cannot be determined
            raise NotFound(f"{unrecorded_id} is not known here.", Do("Ask for its task first."))
