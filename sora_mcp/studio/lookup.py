"""What the ids of sources refer to, according to the ledger and the gateway."""

from __future__ import annotations

from sora_mcp.core.advice import Do
from sora_mcp.core.errors import NotFound
from sora_mcp.core.ids import is_id
from sora_mcp.core.tasks import Generation
from sora_mcp.ledger import Entry, Ledger
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.ids import without_variant
from sora_mcp.studio.poller import Poller

Source = tuple[Entry, Generation]
"""A generation, and the row of its video."""


class Lookup:
    """Finds the videos that a request is made from. `is_owned`: the caller sees only an owner's videos."""

    def __init__(self, connector: Connector, ledger: Ledger, poller: Poller, *, is_owned: bool) -> None:
        self._connector = connector
        self._ledger = ledger
        self._poller = poller
        self._is_owned = is_owned

    async def video(self, video_id: str) -> Entry:
        """Return the row of a task or request id, queried at the gateway if unfinished. Raises NotFound."""
        return await self._poller.find(await self._connector.connect(), video_id)

    async def check_is_id(self, text: str, argument: str, allowed: str) -> None:
        """Raise InvalidInput for a text that is neither recorded nor an id; see `Poller.check_is_id`."""
        connection = await self._connector.connect()
        is_possible = is_id(text) or is_id(without_variant(text))
        if not is_possible or await self._poller.find_recorded(connection, text) is None:
            await self._poller.check_is_id(connection, text, argument, allowed)

    async def is_recorded(self, video_id: str) -> bool:
        """Whether an id is that of a task or a request in our ledger: not every gateway's ids begin with `task_`."""
        return await self._ledger.find((await self._connector.connect()).account, video_id) is not None

    async def generation(self, generation_id: str) -> Source | None:
        """Return a generation and its row, or None if not recorded. Raises NotFound if it is another owner's."""
        connection = await self._connector.connect()
        source = await self._ledger.find_generation(connection.account, generation_id)
        if source is None:
            await self._poller.check_may_ask(connection, generation_id)
            if self._is_owned:  # its owner cannot be determined
                raise NotFound(f"{generation_id} is not known here.", Do("Ask for its task first."))
        return source
