"""Waiting for one video until it has finished or the time is over; trouble that may pass is waited out."""

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
from sora_mcp.studio.poller import Poller
from sora_mcp.studio.questions import ANSWERED_WITHIN
from sora_mcp.studio.submitter import LOOK_EVERY
from sora_mcp.studio.upstream import Upstream

logger = logging.getLogger(__name__)

LEDGER_WITHIN = 5.0
"""Seconds that the ledger may take while somebody waits to be told what it knows."""
WaitProgress = Callable[[Video], Awaitable[None]]
"""Told the video each time it was looked at while waiting."""


def took_too_long() -> BadReply:
    """What to say where the ledger did not answer within LEDGER_WITHIN."""
    return BadReply("It took too long to find out.", TryAgain(), Do("The ledger may be slow."))


class Waiter:
    """Waits for videos. `look_within`: the seconds that one look at the gateway and the ledger may take."""

    def __init__(self, poller: Poller, look_within: float) -> None:
        self._poller = poller
        self._look_within = look_within

    async def wait(
        self, upstream: Upstream, video_id: str, seconds: float, on_progress: WaitProgress | None = None
    ) -> Video:
        """The video when it has finished or `seconds` are over; at once where they are 0. See Studio.get."""
        deadline = anyio.current_time() + seconds
        entry, trouble = await self._first_look(upstream, video_id, deadline)
        usual_s = None
        if entry.state in STARTED:
            with anyio.move_on_after(LEDGER_WITHIN):
                usual_s = await self._poller.usual(upstream)
        video = self._told(upstream, entry, trouble, usual_s)
        if entry.state in FINAL or anyio.current_time() >= deadline:
            return video
        with self._poller.listen(entry) as listener:
            while entry.state not in FINAL and anyio.current_time() < deadline:
                if on_progress is not None:
                    await on_progress(video)
                if entry.task_id is None and entry.state != "sending":
                    break
                entry, trouble = await self._until(deadline, upstream, entry, trouble, listener)
                video = self._told(upstream, entry, trouble, usual_s)
        return video

    def _told(self, upstream: Upstream, entry: Entry, trouble: SoraError | None, usual_s: float | None) -> Video:
        if entry.state not in UNDER_WAY:
            return report.video(entry, upstream.label, trouble, dialect=upstream.dialect)
        age_s = self._poller.age(entry)
        return report.video(entry, upstream.label, trouble, dialect=upstream.dialect, age_s=age_s, usual_s=usual_s)

    async def look_up(self, upstream: Upstream, video_id: str) -> Entry:
        """What the poller learns, or what the ledger knows where it is so slow that this takes too long."""
        with anyio.move_on_after(self._look_within):
            return await self._poller.look_up(upstream, video_id)
        with anyio.move_on_after(LEDGER_WITHIN):
            if known := await self._poller.known(upstream, video_id):
                return known
        raise took_too_long()

    async def _first_look(self, upstream: Upstream, video_id: str, deadline: float) -> tuple[Entry, SoraError | None]:
        """The row of an id, and why the gateway could not be asked about it, where that may pass before `deadline`.

        An id that no row knows is asked about until then. Raises what `look_up` raises.
        """
        seen = await self._try(upstream, video_id, deadline)
        if not isinstance(seen, SoraError):
            return seen
        pause = upstream.tick
        with anyio.CancelScope(deadline=deadline):
            while isinstance(seen, SoraError) and anyio.current_time() + (seen.retry_after_s or 0) <= deadline:
                await anyio.sleep(max(pause, seen.retry_after_s or 0))
                pause = min(2 * pause, upstream.pace)
                seen = await self._try(upstream, video_id, deadline)
        if isinstance(seen, SoraError):
            raise seen
        return seen

    async def _try(
        self, upstream: Upstream, video_id: str, deadline: float
    ) -> tuple[Entry, SoraError | None] | SoraError:
        """What `_first_look` gives, or why there is no row yet. Raises what cannot pass before `deadline`."""
        try:
            return await self.look_up(upstream, video_id), None
        except (GatewayError, NotFound) as trouble:
            if not trouble.can_retry or anyio.current_time() >= deadline:
                raise
            known = await self._poller.known(upstream, video_id)
            return trouble if known is None else (known, trouble)

    async def _until(
        self, deadline: float, upstream: Upstream, entry: Entry, trouble: SoraError | None, listener: Listener
    ) -> tuple[Entry, SoraError | None]:
        """What `_next_look` gives once the row may have changed; at `deadline`, what was known before."""
        looking_since = math.inf
        with anyio.CancelScope(deadline=deadline):
            changed = await listener.heard(upstream.tick if entry.task_id else LOOK_EVERY)
            looking_since = anyio.current_time()
            return await self._next_look(upstream, entry, trouble, may_have_changed=changed)
        if anyio.current_time() - looking_since < ANSWERED_WITHIN:
            return entry, trouble
        return entry, trouble or BadReply("The gateway or the ledger has not answered so far.")

    async def _next_look(
        self, upstream: Upstream, entry: Entry, trouble: SoraError | None, *, may_have_changed: bool
    ) -> tuple[Entry, SoraError | None]:
        """The row as it is now, and what kept the gateway from being asked since it last answered."""
        try:
            now = await self._poller.look_again(
                upstream, entry, in_trouble=trouble is not None, may_have_changed=may_have_changed
            )
        except (GatewayError, NotFound) as error:
            if not error.can_retry:
                raise
            logger.info("a query while waiting failed: %s", error.message)
            return entry, error
        return now, trouble if now.updated_at == entry.updated_at else None
