"""Queries of tasks that a gateway has not answered, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from sora_mcp.core.errors import BadReply, GatewayError, NotFound
from sora_mcp.ledger import Entry

SLOW_AFTER_S = 1.0
"""Seconds after which a query without an answer is reported."""
MAX_ERRORS = 1000
"""Tasks whose last error is remembered; beyond that the oldest is dropped."""

QueryError = GatewayError | NotFound


class QueryTracker:
    """Tracks the queries that this process sends to one gateway, for all callers."""

    def __init__(self) -> None:
        self._started_at: dict[str, float] = {}
        self._errors: dict[str, QueryError] = {}

    @contextmanager
    def tracking(self, entry: Entry) -> Iterator[None]:
        """Track a query of a task, from sending it until its answer is recorded."""
        started_at = self._started_at[entry.request_id] = anyio.current_time()
        try:
            yield
        except (GatewayError, NotFound) as error:
            self._remember(entry, error)
            raise
        except anyio.get_cancelled_exc_class():
            if (overdue := _overdue_error(started_at)) is not None:
                self._remember(entry, overdue)
            raise
        else:
            self._errors.pop(entry.request_id, None)
        finally:
            self._started_at.pop(entry.request_id, None)

    def error_for(self, entry: Entry) -> QueryError | None:
        """Return why the last query of a task gave no state; None if it gave one, or none was sent."""
        started_at = self._started_at.get(entry.request_id)
        if started_at is not None and (error := _overdue_error(started_at)) is not None:
            return error
        if not entry.failed_polls:
            return self._errors.get(entry.request_id)
        from_other_process = BadReply("The gateway gave no usable answer when it was last asked.")
        return self._errors.get(entry.request_id, from_other_process)

    def _remember(self, entry: Entry, error: QueryError) -> None:
        self._errors[entry.request_id] = error
        while len(self._errors) > MAX_ERRORS:
            del self._errors[next(iter(self._errors))]


def _overdue_error(started_at: float) -> BadReply | None:
    is_late = anyio.current_time() - started_at >= SLOW_AFTER_S
    return BadReply("The gateway has not answered so far.") if is_late else None
