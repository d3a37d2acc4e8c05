"""Settling a request whose outcome is unknown, by what a person found out, or giving up its task."""

from __future__ import annotations

from contextlib import suppress

import anyio

from sora_mcp.core.advice import SeeList
from sora_mcp.core.errors import InvalidInput, NotFound, Problem, SoraError
from sora_mcp.core.results import Video
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.protocol import ListedTask, Listing
from sora_mcp.ledger import Entry, Ledger
from sora_mcp.studio import report
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.poller import Poller
from sora_mcp.studio.upstream import Upstream

LIST_TIMEOUT_S = 5.0
"""Seconds that the upstream's list may take when the caller asked for the video only."""
CANDIDATE_WINDOW_S = 900.0
"""Seconds before and after a request within which a task may be its result: clocks differ."""


class Settler:
    """Records what a person found out. All methods raise SoraError and nothing else.

    `is_shared`: several people share the server and its key, so listed tasks may be another person's.
    """

    def __init__(self, ledger: Ledger, connector: Connector, poller: Poller, *, is_shared: bool) -> None:
        self._is_shared = is_shared
        self._ledger = ledger
        self._connector = connector
        self._poller = poller

    async def settle(self, request_id: str, task_id: str | None) -> Video:
        """Record what a person says about a request; see `Studio.settle`."""
        connection = await self._connector.connect()
        await self._find_request(connection, request_id)
        if task_id is not None:
            await self._check_task(connection, request_id, task_id)
        given_up = await self._poller.find_abandonable(connection, request_id) if task_id is None else None
        entry = await self._ledger.settle(connection.account, request_id, task_id, given_up=given_up)
        if entry is None:
            known = await self._ledger.find(connection.account, request_id)
            raise NotFound(report.not_settled_reason(request_id, known, task_id), SeeList())
        return report.video(entry, connection.label, dialect=connection.dialect)

    async def candidates(self, request_id: str) -> list[ListedTask]:
        """Return the tasks that the upstream lists around the time of an unknown request and that no other request has:
        those with its prompt first, then by distance in time; empty if the upstream cannot list tasks.

        Raises NotFound for a request that is not unknown, and what listing raises.
        """
        return await self._find_candidates(request_id) or []

    async def with_candidates(self, video: Video) -> Video:
        """Return the video; if its outcome is unknown, with advice that names the tasks it may have become. Raises
        nothing: without a timely answer of the upstream, nothing is added."""
        listed: list[ListedTask] | None = None
        if video.state == "unknown":
            with suppress(SoraError), anyio.move_on_after(LIST_TIMEOUT_S):
                listed = await self._find_candidates(video.request_id)
        if listed is None:
            return video
        return video.model_copy(update={"advice": (report.candidates(listed), *video.advice)})

    async def _find_candidates(self, request_id: str) -> list[ListedTask] | None:
        """Return the candidates; None if the upstream cannot list tasks."""
        connection = await self._connector.connect()
        entry = await self._find_request(connection, request_id)
        if entry is None or entry.state != "unknown":
            raise NotFound(report.not_settled_reason(request_id, entry), SeeList())
        dialect = connection.dialect_of(entry)
        if self._is_shared or not (dialect.capabilities.can_list and isinstance(dialect, Listing)):
            return None
        listed = await connection.gateway.list_tasks(dialect)
        near = [task for task in listed if abs(task.created_at - entry.created_at) <= CANDIDATE_WINDOW_S]
        unclaimed = [task for task in near if await self._ledger.find(connection.account, task.task_id) is None]
        prompt = clean(entry.body.get("prompt") or "", 4000)
        return sorted(unclaimed, key=lambda task: (prompt not in task.prompt, abs(task.created_at - entry.created_at)))

    async def _find_request(self, connection: Upstream, request_id: str) -> Entry | None:
        """Return a request's row, or None. Raises InvalidInput for what is not an id."""
        return await self._poller.find_recorded(connection, request_id, "request_id", "req_…")

    async def _check_task(self, connection: Upstream, request_id: str, task_id: str) -> None:
        """Raise InvalidInput or NotFound for a task that cannot be the result of a request."""
        known = await self._poller.find_recorded(connection, task_id, "task", "task_…")
        if known is not None and known.task_id != task_id:
            meant = "" if known.id == known.request_id else f" (did you mean {known.id}?)"
            raise InvalidInput([Problem("task", f"is not the id of a task{meant}", "task_…")])
        await self._poller.check_may_ask(connection, task_id)
        entry = await self._ledger.find(connection.account, request_id)
        dialect = connection.dialect if entry is None else connection.dialect_of(entry)
        try:
            await connection.gateway.query(task_id, dialect)
        except NotFound:
            if entry is None or entry.account == connection.account:
                raise
            # It was made with another key: the gateway answers only that one, and a person has checked.
