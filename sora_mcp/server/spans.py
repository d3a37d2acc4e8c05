"""Limit what the SDK's spans (OpenTelemetry) record of a failed request to its code, without the error message.

The message may quote what a person wrote, and spans go to places that are not meant to have that.
"""

from __future__ import annotations

from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from pydantic import ValidationError


class _RedactedError(MCPError):
    """Replaces an error while the span of its request records it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error.error.code if isinstance(error, MCPError) else INTERNAL_ERROR, "It is in the answer.")
        self.original = error


async def _redact(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    try:
        return await call_next(ctx)
    except ValidationError:  # spans record nothing of it anyway
        raise
    except Exception as error:  # noqa: BLE001 - all of them: the original is raised again by _restore
        raise _RedactedError(error) from None


async def _restore(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    try:
        return await call_next(ctx)
    except _RedactedError as error:
        raise error.original from None


def redact_spans(middleware: list[ServerMiddleware[Any]]) -> list[ServerMiddleware[Any]]:
    """Return the middleware of a server, extended to keep error messages out of its spans."""
    return [_restore, *middleware, _redact]
