"""What the server has done since it started, as numbers: calls by tool and outcome, and how long they took.

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

BOUNDS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds up to which calls are counted together."""
UNKNOWN_TOOL = "other"
"""The name under which calls of tools are counted that do not exist: a client can make up any number of names."""


class Durations(Struct):
    """How long the calls of one tool took: `counts` up to each of BOUNDS_S, and beyond; `total_s` of all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds


class Calls:
    """Counts tool calls, as middleware of a server."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.durations: dict[str, Durations] = {}
        self.under_way = 0

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        began, outcome = time.perf_counter(), "cancelled"
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
            self.durations.setdefault(tool, Durations()).add(time.perf_counter() - began)
        return result


def _outcome(result: HandlerResult) -> str:
    """One of a few words: a paid call's outcome, else `ok`, `error`, or `asked` where the user is asked first.

    A result is what is sent, or the model of it where other middleware has answered.
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
