"""Count tool calls since the server started: by tool and outcome, and how long they took.

Nothing here names an owner, a video or a prompt.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from typing import Any, get_args

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from msgspec import Struct, field
from pydantic import BaseModel

from sora_mcp import tools
from sora_mcp.core.errors import Outcome

BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram's buckets, in seconds."""
UNKNOWN_TOOL = "other"
"""The name for calls of tools that do not exist: a client can make up any number of names."""


class Durations(Struct):
    """How long the calls of one tool took. `counts`: calls in each of BUCKETS_S, and beyond. `total_s`: of all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds


class Calls:
    """Middleware that counts tool calls."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.durations: dict[str, Durations] = {}
        self.under_way = 0

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        started_at, outcome = time.perf_counter(), "cancelled"
        self.under_way += 1
        try:
            result = await call_next(ctx)
            outcome = _outcome(result)
        except Exception:
            outcome = "error"
            raise
        finally:
            self.under_way -= 1
            name = (ctx.params or {}).get("name")
            tool = name if isinstance(name, str) and name in tools.TABLE else UNKNOWN_TOOL
            self.outcomes[tool, outcome] += 1
            self.durations.setdefault(tool, Durations()).add(time.perf_counter() - started_at)
        return result


def _outcome(result: HandlerResult) -> str:
    """Return the outcome of a paid call, or `ok`, `error`, or `asked` if the user is asked first.

    A result is the serialized one, or a model if other middleware has answered.
    """
    if isinstance(result, BaseModel):
        result = result.model_dump(by_alias=True, exclude_none=True)
    if result is None or "content" not in result:
        return "asked"
    outcome = (result.get("structuredContent") or {}).get("outcome")
    if outcome in _PAID_OUTCOMES:
        return str(outcome)
    return "error" if result.get("isError") else "ok"


_PAID_OUTCOMES = get_args(Outcome)
