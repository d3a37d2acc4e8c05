"""The yardstick: tools that do nothing, on the low-level server of the SDK, over stdio or HTTP (`--http`).

They are three, or those of a list (JSON) whose path comes last (`--tools FILE`). With `--token TOKEN` (last) callers
over HTTP have to send that.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from pydantic import AnyHttpUrl

Context = ServerRequestContext[dict[str, Any]]

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOLS = [types.Tool(name=name, description="Does nothing.", input_schema=SCHEMA) for name in ("one", "two", "three")]
if "--tools" in sys.argv:
    TOOLS = [types.Tool.model_validate(tool) for tool in json.loads(Path(sys.argv[-1]).read_text(encoding="utf-8"))]


async def list_tools(_: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(tools=TOOLS)


async def call_tool(_: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=str((params.arguments or {}).get("text")))])


SERVER = Server("bare", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def serve_stdio() -> None:
    async with stdio_server() as (read_stream, write_stream):
        await SERVER.run(read_stream, write_stream, SERVER.create_initialization_options())


def serve_http() -> None:
    from sora_mcp.runtime.listening import listen  # noqa: PLC0415 - the same HTTP server with the same settings

    def ready(base_url: str) -> None:
        sys.stderr.write(f"Serving MCP at {base_url}/mcp\n")
        sys.stderr.flush()

    app = SERVER.streamable_http_app(**_authentication(sys.argv[-1]) if "--token" in sys.argv else {})
    listen(app, "127.0.0.1", 0, ready)


def _authentication(token: str) -> dict[str, Any]:
    """What the SDK needs to ask for one static token, of which it knows the hash."""
    digest = hashlib.sha256(token.encode()).digest()

    class Verifier:
        async def verify_token(self, token: str) -> AccessToken | None:
            known = hmac.compare_digest(hashlib.sha256(token.encode()).digest(), digest)
            return AccessToken(token=token, client_id="anna", scopes=["videos:read"]) if known else None

    address = AnyHttpUrl("http://127.0.0.1/mcp")
    settings = AuthSettings(issuer_url=address, resource_server_url=address, validate_token_resource=False)
    return {"token_verifier": Verifier(), "auth": settings}


if __name__ == "__main__":
    if "--http" in sys.argv:
        serve_http()
    else:
        anyio.run(serve_stdio)
