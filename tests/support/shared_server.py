"""A server shared by several people, over HTTP on a real socket, and their clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import uvicorn
from bench import Era
from mcp import Client
from mcp.client._transport import TransportStreams
from mcp.client.session import ElicitationFnT, MessageHandlerFnT
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from sora_mcp.config.settings import Settings
from sora_mcp.core.cost import Cost
from sora_mcp.identity.tokens import TokenStore
from sora_mcp.ledger import open_documents
from sora_mcp.server import build
from sora_mcp.server.authentication import Authentication
from sora_mcp.server.http import MCP_PATH, HttpApp
from sora_mcp.server.surface import SoraServer


@dataclass
class Team:
    """A running server. People get a token by name."""

    settings: Settings
    server: SoraServer
    address: str
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, name: str, cap: Cost | None = None, *, replace: bool = False) -> str:
        """A person's token, created at first use."""
        if name not in self.tokens or replace:
            self.tokens[name] = TokenStore(open_documents(self.settings)).add(name, None, cap, replace=replace)
        return self.tokens[name]

    def client(
        self,
        name: str,
        era: Era = "auto",
        *,
        user: ElicitationFnT | None = None,
        message_handler: MessageHandlerFnT | None = None,
    ) -> Client:
        """A person's client."""
        transport = self._transport(name)
        return Client(transport, mode=era, elicitation_callback=user, message_handler=message_handler)

    def headers(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(name)}"}

    @asynccontextmanager
    async def _transport(self, name: str) -> AsyncIterator[TransportStreams]:
        http = create_mcp_http_client(headers=self.headers(name))
        async with http, streamable_http_client(self.address, http_client=http) as streams:
            yield streams


def build_app(settings: Settings) -> tuple[SoraServer, HttpApp]:
    server = build(settings)
    return server, HttpApp(server, settings, authentication=Authentication.from_settings(settings))


@asynccontextmanager
async def team(settings: Settings) -> AsyncIterator[Team]:
    """A server in this process, accessible to its tests."""
    server, app = build_app(settings)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="warning", lifespan="on", timeout_graceful_shutdown=2
    )
    running = Running(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.run_to_its_end)
        with anyio.fail_after(20):
            await running.is_ready.wait()
        try:
            yield Team(settings, server, f"http://127.0.0.1:{running.port}{MCP_PATH}")
        finally:
            running.should_exit = True
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                await app.shutdown()
                await running.has_ended.wait()


class Running(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = anyio.Event()
        self.has_ended = anyio.Event()
        self.port = 0

    async def run_to_its_end(self) -> None:
        await self.serve()
        self.has_ended.set()

    async def startup(self, sockets: object = None) -> None:  # noqa: ARG002 - a free port is taken
        await super().startup()
        self.port = int(self.servers[0].sockets[0].getsockname()[1])
        self.is_ready.set()
