"""Which questions about tasks a gateway has not answered, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from sora_mcp.core.errors import BadReply, GatewayError, NotFound
from sora_mcp.ledger import Entry

ANSWERED_WITHIN = 1.0
"""Seconds; a question that is out for longer is worth telling."""
TROUBLES_MOST = 1000
"""Tasks whose trouble is remembered; beyond that the one that came first is forgotten."""

Trouble = GatewayError | NotFound


class Questions:
    """What this process has asked one gateway about, whoever wanted to know."""

    def __init__(self) -> None:
        self._asked_at: dict[str, float] = {}
        self._troubles: dict[str, Trouble] = {}

    @contextmanager
    def asking(self, entry: Entry) -> Iterator[None]:
        """A question about a task, from when it is sent until its answer is recorded."""
        asked_at = self._asked_at[entry.request_id] = anyio.current_time()
        try:
            yield
        except (GatewayError, NotFound) as error:
            self._keep(entry, error)
            raise
        except anyio.get_cancelled_exc_class():
            if (trouble := _no_answer_since(asked_at)) is not None:
                self._keep(entry, trouble)
            raise
        else:
            self._troubles.pop(entry.request_id, None)
        finally:
            self._asked_at.pop(entry.request_id, None)

    def trouble_with(self, entry: Entry) -> Trouble | None:
        """Why the gateway has not told how a task stands, though it was asked; None where it has, or was not asked."""
        asked_at = self._asked_at.get(entry.request_id)
        if asked_at is not None and (trouble := _no_answer_since(asked_at)) is not None:
            return trouble
        if not entry.failed_polls:
            return self._troubles.get(entry.request_id)
        by_others = BadReply("The gateway gave no usable answer when it was last asked.")
        return self._troubles.get(entry.request_id, by_others)

    def _keep(self, entry: Entry, trouble: Trouble) -> None:
        self._troubles[entry.request_id] = trouble
        while len(self._troubles) > TROUBLES_MOST:
            del self._troubles[next(iter(self._troubles))]


def _no_answer_since(asked_at: float) -> BadReply | None:
    is_late = anyio.current_time() - asked_at >= ANSWERED_WITHIN
    return BadReply("The gateway has not answered so far.") if is_late else None
