"""What a caller's token allows: paid tools need `videos:create`, everything else that shows videos `videos:read`."""

from __future__ import annotations

from typing import Any

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError

from sora_mcp import tools
from sora_mcp.core.errors import NotAllowed
from sora_mcp.identity.scopes import CREATE, READ
from sora_mcp.server.principals import current_principal

_FREE = {"initialize", "ping", "server/discover", "tools/list", "logging/setLevel"}
"""What every caller may ask: it shows nothing of anybody."""


def needed(method: str, params: object) -> str | None:
    """The scope that a request needs, None where every caller may make it."""
    if method in _FREE or method.startswith("notifications/"):
        return None
    if method != "tools/call":
        return READ
    name = params.get("name") if isinstance(params, dict) else None
    tool = tools.TABLE.get(name) if isinstance(name, str) else None
    return CREATE if tool is not None and tool.paid else READ


async def check_scope(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware of a server whose callers are known: a request is served only where its token allows it.

    Raises MCPError where it does not; a tool call is answered with an error of the tool's.
    """
    principal = current_principal()
    if principal is None:
        raise MCPError(types.INVALID_REQUEST, "Nobody knows who makes this request. It was not served.")
    scope = needed(ctx.method, ctx.params)
    if scope is None or scope in principal.scopes:
        return await call_next(ctx)
    refusal = NotAllowed(scope)
    if ctx.method != "tools/call":
        raise MCPError(types.INVALID_REQUEST, refusal.message)
    refused = tools.failed(refusal, paid=scope == CREATE)
    content: list[types.ContentBlock] = [types.TextContent(text=text) for text in (refused.text, refused.mirror)]
    return types.CallToolResult(content=content, structured_content=refused.structured, is_error=True)
