"""What the ids of sources stand for, as the ledger and the gateway know it."""

from __future__ import annotations

from sora_mcp.core.advice import Do
from sora_mcp.core.errors import NotFound
from sora_mcp.core.tasks import Generation
from sora_mcp.ledger import Entry, Ledger
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.poller import Poller

Source = tuple[Entry, Generation]
"""A generation, and the row of the video that it is of."""


class Lookup:
    """Looks up what a request may be made from. `is_owned`: the caller sees only an owner's videos."""

    def __init__(self, connector: Connector, ledger: Ledger, poller: Poller, *, is_owned: bool) -> None:
        self._connector = connector
        self._ledger = ledger
        self._poller = poller
        self._is_owned = is_owned

    async def video(self, video_id: str) -> Entry:
        """The row of a task or request id, asked anew at the gateway if it was not finished. Raises NotFound."""
        return await self._poller.look_up(await self._connector.connect(), video_id)

    async def is_recorded(self, video_id: str) -> bool:
        """Whether an id is that of a task or a request in our ledger: not every gateway's ids begin with `task_`."""
        return await self._ledger.find((await self._connector.connect()).account, video_id) is not None

    async def generation(self, generation_id: str) -> Source | None:
        """Where our ledger knows a generation id from. Raises NotFound where it is somebody else's."""
        connection = await self._connector.connect()
        source = await self._ledger.find_generation(connection.account, generation_id)
        if source is None:
            await self._poller.check_may_ask(connection, generation_id)
            if self._is_owned:  # whose it is cannot be known
                raise NotFound(f"{generation_id} is not known here.", Do("Ask for its task first."))
        return source
