"""A person settles a request whose outcome is unknown, or gives up its task."""

from __future__ import annotations

from contextlib import suppress

import anyio

from sora_mcp.core.advice import SeeList
from sora_mcp.core.errors import InvalidInput, NotFound, Problem, SoraError
from sora_mcp.core.ids import is_id
from sora_mcp.core.results import Video
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.protocol import ListedTask, Listing
from sora_mcp.ledger import Ledger
from sora_mcp.studio import report
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.poller import Poller
from sora_mcp.studio.upstream import Upstream

LIST_WITHIN_S = 5.0
"""Seconds that the upstream's list may take where somebody asked about a request, not for that."""
AROUND_S = 900.0
"""Seconds before and after a request in which a task may be the one that came of it: clocks differ."""


class Settler:
    """Records what a person found out. All methods raise SoraError and nothing else.

    `is_shared`: several people share the server and its key, so that what the upstream lists may be anybody's.
    """

    def __init__(self, ledger: Ledger, connector: Connector, poller: Poller, *, is_shared: bool) -> None:
        self._is_shared = is_shared
        self._ledger = ledger
        self._connector = connector
        self._poller = poller

    async def settle(self, request_id: str, task_id: str | None) -> Video:
        """Record a person's word about a request; see `Studio.settle`."""
        connection = await self._connector.connect()
        if task_id is not None:
            await self._check_known(connection, request_id, task_id)
        given_up = await self._poller.abandonable(connection, request_id) if task_id is None else None
        entry = await self._ledger.settle(connection.account, request_id, task_id, given_up=given_up)
        if entry is None:
            known = await self._ledger.find(connection.account, request_id)
            raise NotFound(report.not_settled(request_id, known, task_id), SeeList())
        return report.video(entry, connection.label, dialect=connection.dialect)

    async def candidates(self, request_id: str) -> list[ListedTask]:
        """The tasks that the upstream lists around the time of an unknown request, and no other request has: the one
        with its prompt first, then those that are nearest in time; none where it cannot list any.

        Raises NotFound for a request that is not unknown, and what the list raises.
        """
        return await self._listed(request_id) or []

    async def with_candidates(self, video: Video) -> Video:
        """What is told of a video; of one whose outcome is unknown also which tasks it may have become. Raises
        nothing: where the upstream does not say in time, nothing is added."""
        listed: list[ListedTask] | None = None
        if video.state == "unknown":
            with suppress(SoraError), anyio.move_on_after(LIST_WITHIN_S):
                listed = await self._listed(video.request_id)
        if listed is None:
            return video
        return video.model_copy(update={"advice": (report.candidates(listed), *video.advice)})

    async def _listed(self, request_id: str) -> list[ListedTask] | None:
        """The candidates; None where the upstream cannot list any."""
        connection = await self._connector.connect()
        entry = await self._ledger.find(connection.account, request_id)
        if entry is None or entry.state != "unknown":
            raise NotFound(report.not_settled(request_id, entry), SeeList())
        dialect = connection.dialect_of(entry)
        if self._is_shared or not (dialect.capabilities.can_list and isinstance(dialect, Listing)):
            return None
        listed = await connection.gateway.tasks(dialect)
        near = [task for task in listed if abs(task.created_at - entry.created_at) <= AROUND_S]
        free = [task for task in near if await self._ledger.find(connection.account, task.task_id) is None]
        prompt = clean(entry.body.get("prompt") or "", 4000)
        return sorted(free, key=lambda task: (prompt not in task.prompt, abs(task.created_at - entry.created_at)))

    async def _check_known(self, connection: Upstream, request_id: str, task_id: str) -> None:
        """Raise InvalidInput or NotFound for a task that cannot have come of a request."""
        if not is_id(task_id):
            raise InvalidInput([Problem("task", "is not an id", "task_…")])
        await self._poller.check_may_ask(connection, task_id)
        entry = await self._ledger.find(connection.account, request_id)
        words = connection.dialect if entry is None else connection.dialect_of(entry)
        try:
            await connection.gateway.query(task_id, words)
        except NotFound:
            if entry is None or entry.account == connection.account:
                raise
            # It was made with another key: only that one is told, and a person has looked.
