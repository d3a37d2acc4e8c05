"""An HTTP server with authentication in this process, and messages as clients of both eras send them."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import uvicorn
from bench import Era
from mcp import Client
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client

from sora_mcp.config.settings import Settings
from sora_mcp.server import build
from sora_mcp.server.authentication import Authentication
from sora_mcp.server.http import MCP_PATH, HttpApp

ACCEPT = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE_PARAMS = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def team_server(settings: Settings) -> AsyncIterator[str]:
    """A server with the authentication of the settings; the address of its MCP endpoint."""
    server = build(settings)
    app = HttpApp(server, settings, authentication=Authentication.from_settings(settings))
    served = _Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(served.serve)
        with anyio.fail_after(20):
            await served.ready.wait()
        try:
            yield f"http://127.0.0.1:{served.servers[0].sockets[0].getsockname()[1]}{MCP_PATH}"
        finally:
            with anyio.CancelScope(shield=True):
                await app.shutdown()
            served.should_exit = True


def bearer(token: str | None) -> dict[str, str]:
    """The header that carries a token."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def message(method: str, **params: Any) -> bytes:
    """One request of JSON-RPC."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def first_request(era: Era) -> tuple[dict[str, str], bytes]:
    """Headers and body of a client's first request."""
    if era == "legacy":
        return ACCEPT, message("initialize", **INITIALIZE_PARAMS)
    modern = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
    return ACCEPT | modern, message("tools/list", _meta=META)


async def post(address: str, headers: Any, body: bytes) -> httpx.Response:
    """Send a raw request."""
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        return await http.post(address, headers=headers, content=body)


async def begin_session(address: str, era: Era, token: str | None, **headers: str) -> httpx.Response:
    """The response to a client's first request, with a token or without one."""
    usual, body = first_request(era)
    return await post(address, usual | bearer(token) | headers, body)


@asynccontextmanager
async def authorized_client(
    address: str, token: str, era: Era, user: ElicitationFnT | None = None
) -> AsyncIterator[Client]:
    """A client that sends a token; `user` answers questions."""
    import httpx2  # noqa: PLC0415 - what the SDK speaks HTTP with

    async with (
        httpx2.AsyncClient(headers=bearer(token), timeout=20, trust_env=False) as http,
        Client(streamable_http_client(address, http_client=http), mode=era, elicitation_callback=user) as client,
    ):
        yield client
