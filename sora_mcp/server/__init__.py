"""The MCP server: tools, resources and prompts over stdio and streamable HTTP, in both protocol eras."""

from sora_mcp.server.surface import build
from sora_mcp.server.transports import serve_http, serve_stdio

__all__ = ["build", "serve_http", "serve_stdio"]
