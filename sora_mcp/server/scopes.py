"""Scopes of a caller's token: paid tools need `videos:create`, everything else that shows videos `videos:read`."""

from __future__ import annotations

from typing import Any

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError

from sora_mcp import tools
from sora_mcp.core.errors import NotAllowed
from sora_mcp.identity.scopes import CREATE, READ
from sora_mcp.server.principals import current_principal

_UNSCOPED_METHODS = {"initialize", "ping", "server/discover", "tools/list", "logging/setLevel"}
"""Methods that need no scope: they show nobody's data."""


def required_scope(method: str, params: object) -> str | None:
    """Return the scope that a request needs, or None if every caller may make it."""
    if method in _UNSCOPED_METHODS or method.startswith("notifications/"):
        return None
    if method != "tools/call":
        return READ
    name = params.get("name") if isinstance(params, dict) else None
    tool = tools.TABLE.get(name) if isinstance(name, str) else None
    return CREATE if tool is not None and tool.paid else READ


async def check_scope(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware of a server with authentication: serve a request only if its token allows it.

    Raise MCPError if it does not; for a tool call, return an error result.
    """
    principal = current_principal()
    if principal is None:
        raise MCPError(types.INVALID_REQUEST, "It is not known who makes this request, so it was not served.")
    scope = required_scope(ctx.method, ctx.params)
    if scope is None or scope in principal.scopes:
        return await call_next(ctx)
    error = NotAllowed(scope)
    if ctx.method != "tools/call":
        raise MCPError(types.INVALID_REQUEST, error.message)
    result = tools.error_result(error, paid=scope == CREATE)
    content: list[types.ContentBlock] = [types.TextContent(text=text) for text in (result.text, result.mirror)]
    return types.CallToolResult(content=content, structured_content=result.structured, is_error=True)
