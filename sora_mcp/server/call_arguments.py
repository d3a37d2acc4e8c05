"""The arguments of `tools/call` that are no object: the SDK would refuse them without saying what is wrong."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

_unusable: ContextVar[object] = ContextVar("_unusable", default=None)
"""The arguments of the current call if they are no object."""


async def accept_any_arguments(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Pass on every call with an object as its arguments. An empty array means none: PHP writes an empty object so."""
    arguments = (ctx.params or {}).get("arguments")
    if ctx.method != "tools/call" or arguments is None or isinstance(arguments, dict):
        return await call_next(ctx)
    token = _unusable.set(None if arguments == [] else arguments)
    try:
        return await call_next(replace(ctx, params={**(ctx.params or {}), "arguments": {}}))
    finally:
        _unusable.reset(token)


def received_arguments(arguments: dict[str, Any] | None) -> object:
    """Return the arguments of the current call as its client sent them, given what was passed on."""
    unusable = _unusable.get()
    return arguments if unusable is None else unusable
