"""Waiting for one video until it has finished or the time is up; temporary errors are retried."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable

import anyio

from sora_mcp.core.advice import Do, TryAgain
from sora_mcp.core.errors import BadReply, GatewayError, NotFound, SoraError
from sora_mcp.core.results import Video
from sora_mcp.core.states import STARTED
from sora_mcp.core.tasks import FINAL, UNDER_WAY
from sora_mcp.ledger import Entry, Listener
from sora_mcp.studio import report
from sora_mcp.studio.generations import named_variant
from sora_mcp.studio.poller import Poller
from sora_mcp.studio.queries import SLOW_AFTER_S
from sora_mcp.studio.submitter import POLL_INTERVAL_S
from sora_mcp.studio.upstream import Upstream

logger = logging.getLogger(__name__)

LEDGER_TIMEOUT_S = 5.0
"""Seconds that the ledger may take while a caller waits for its answer."""
WaitProgress = Callable[[Video], Awaitable[None]]
"""Receive the video after each poll while waiting."""


def ledger_timeout_error() -> BadReply:
    """Return the error for a ledger that did not answer within LEDGER_TIMEOUT_S."""
    return BadReply("It took too long to find out.", TryAgain(), Do("The ledger may be slow."))


class Waiter:
    """Waits for videos. `lookup_timeout_s`: seconds that one lookup at the gateway and in the ledger may take."""

    def __init__(self, poller: Poller, lookup_timeout_s: float) -> None:
        self._poller = poller
        self._lookup_timeout_s = lookup_timeout_s

    async def wait(
        self, upstream: Upstream, video_id: str, seconds: float, on_progress: WaitProgress | None = None
    ) -> Video:
        """Return the video when it has finished or `seconds` are over; at once if they are 0. See `Studio.get`."""
        deadline = anyio.current_time() + seconds
        entry, last_error = await self._find_or_wait(upstream, video_id, deadline)
        named_variant(video_id, entry)
        usual_s = None
        if entry.state in STARTED:
            with anyio.move_on_after(LEDGER_TIMEOUT_S):
                usual_s = await self._poller.usual_duration(upstream)
        video = self._video(upstream, entry, last_error, usual_s)
        if entry.state in FINAL or anyio.current_time() >= deadline:
            return video
        with self._poller.listen(entry) as listener:
            while entry.state not in FINAL and anyio.current_time() < deadline:
                if on_progress is not None:
                    await on_progress(video)
                if entry.task_id is None and entry.state != "sending":
                    break
                entry, last_error = await self._wait_for_change(deadline, upstream, entry, last_error, listener)
                video = self._video(upstream, entry, last_error, usual_s)
        named_variant(video_id, entry)
        return video

    def _video(self, upstream: Upstream, entry: Entry, last_error: SoraError | None, usual_s: float | None) -> Video:
        if entry.state not in UNDER_WAY:
            return report.video(entry, upstream.label, last_error, dialect=upstream.dialect)
        age_s = self._poller.age(entry)
        return report.video(entry, upstream.label, last_error, dialect=upstream.dialect, age_s=age_s, usual_s=usual_s)

    async def find(self, upstream: Upstream, video_id: str) -> Entry:
        """Return what the poller finds, or what the ledger has recorded if that takes too long."""
        with anyio.move_on_after(self._lookup_timeout_s):
            return await self._poller.find(upstream, video_id)
        with anyio.move_on_after(LEDGER_TIMEOUT_S):
            if entry := await self._poller.find_recorded(upstream, video_id):
                return entry
        raise ledger_timeout_error()

    async def _find_or_wait(self, upstream: Upstream, video_id: str, deadline: float) -> tuple[Entry, SoraError | None]:
        """Return the row of an id, and the error if the gateway could not be queried but may answer before `deadline`.

        An id without a row is queried until then. Raises what `find` raises.
        """
        result = await self._try_find(upstream, video_id, deadline)
        if not isinstance(result, SoraError):
            return result
        pause = upstream.tick
        with anyio.CancelScope(deadline=deadline):
            while isinstance(result, SoraError) and anyio.current_time() + (result.retry_after_s or 0) <= deadline:
                await anyio.sleep(max(pause, result.retry_after_s or 0))
                pause = min(2 * pause, upstream.pace)
                result = await self._try_find(upstream, video_id, deadline)
        if isinstance(result, SoraError):
            raise result
        return result

    async def _try_find(
        self, upstream: Upstream, video_id: str, deadline: float
    ) -> tuple[Entry, SoraError | None] | SoraError:
        """Return what `_find_or_wait` returns, or the error if there is no row yet. Raises what is not worth a
        retry."""
        try:
            return await self.find(upstream, video_id), None
        except (GatewayError, NotFound) as last_error:
            if not last_error.can_retry or anyio.current_time() >= deadline:
                raise
            entry = await self._poller.find_recorded(upstream, video_id)
            return last_error if entry is None else (entry, last_error)

    async def _wait_for_change(
        self, deadline: float, upstream: Upstream, entry: Entry, last_error: SoraError | None, listener: Listener
    ) -> tuple[Entry, SoraError | None]:
        """Return what `_poll` returns once the row may have changed; at `deadline`, the arguments."""
        poll_started_at = math.inf
        with anyio.CancelScope(deadline=deadline):
            changed = await listener.wait(upstream.tick if entry.task_id else POLL_INTERVAL_S)
            poll_started_at = anyio.current_time()
            return await self._poll(upstream, entry, last_error, may_have_changed=changed)
        if anyio.current_time() - poll_started_at < SLOW_AFTER_S:
            return entry, last_error
        return entry, last_error or BadReply("The gateway or the ledger has not answered so far.")

    async def _poll(
        self, upstream: Upstream, entry: Entry, last_error: SoraError | None, *, may_have_changed: bool
    ) -> tuple[Entry, SoraError | None]:
        """Return the current row, and the gateway's error since it last answered."""
        try:
            current = await self._poller.poll(
                upstream, entry, has_failed=last_error is not None, may_have_changed=may_have_changed
            )
        except (GatewayError, NotFound) as error:
            if not error.can_retry:
                raise
            logger.info("a query while waiting failed: %s", error.message)
            return entry, error
        return current, last_error if current.updated_at == entry.updated_at else None
