"""A server with SORA_AUTH as a process of its own, and people on other machines, each with a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx
from bench import Era, over_http
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from sora_mcp.identity.tokens import TokenFile


@dataclass(frozen=True, slots=True)
class FarAway:
    """A server at `address`, its folder, and people's tokens by their names."""

    address: str
    home: Path
    tokens: dict[str, str]

    def client(self, name: str, era: Era = "auto") -> Client:
        """A person's client."""

        @asynccontextmanager
        async def transport() -> AsyncIterator[object]:
            http = httpx.AsyncClient(headers=self.headers(name), timeout=60, trust_env=False)
            async with http, streamable_http_client(self.address, http_client=http) as streams:
                yield streams

        return Client(transport(), mode=era)

    def headers(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[name]}"}


@asynccontextmanager
async def far_away(environment: dict[str, str], *names: str) -> AsyncIterator[FarAway]:
    """A server that runs, which lets `names` in."""
    home = Path(environment["SORA_HOME"])
    tokens = {name: TokenFile(home).add(name, None, None) for name in names}
    running = over_http(environment | {"SORA_AUTH": "tokens"})
    async with running as (address, process), anyio.create_task_group() as tasks:
        tasks.start_soon(_read, process.stderr)
        yield FarAway(address, home, tokens)
        tasks.cancel_scope.cancel()


async def _read(stream: anyio.abc.ByteReceiveStream | None) -> None:
    """Else a server that logs much would stand still."""
    if stream is not None:
        async for _ in stream:
            pass
