"""What the SDK's spans (OpenTelemetry) say of a request that failed: its code, and none of the words of the answer.

Those may quote what somebody wrote, and spans go to places that are not meant to have that.
"""

from __future__ import annotations

from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from pydantic import ValidationError


class _Unsaid(MCPError):
    """Stands for an error while the span of its request looks at it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error.error.code if isinstance(error, MCPError) else INTERNAL_ERROR, "It is in the answer.")
        self.unsaid = error


async def _hide(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    try:
        return await call_next(ctx)
    except ValidationError:  # of which a span says nothing, as it is
        raise
    except Exception as error:  # noqa: BLE001 - every one: it is raised again below
        raise _Unsaid(error) from None


async def _say(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    try:
        return await call_next(ctx)
    except _Unsaid as error:
        raise error.unsaid from None


def without_words(middleware: list[ServerMiddleware[Any]]) -> list[ServerMiddleware[Any]]:
    """The middleware of a server, with what keeps words from the spans that it makes."""
    return [_say, *middleware, _hide]
