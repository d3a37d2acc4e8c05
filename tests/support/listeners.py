"""A client that hears of changes, on both protocol eras."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import mcp_types as types
from mcp import Client
from mcp.client.subscriptions import ResourceUpdated
from resources import text


class ChangeListener:
    """Hears of changes at a client, in the way of its era."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._news = anyio.Event()

    async def __call__(self, message: object) -> None:
        """A message of the handshake era."""
        if isinstance(message, types.ResourceUpdatedNotification):
            self.hear(message.params.uri)

    def hear(self, what: str) -> None:
        self.heard.append(what)
        self._news.set()

    async def hears(self, what: str, times: int = 1) -> None:
        """Wait until it was heard so often."""
        while self.heard.count(what) < times:
            self._news = anyio.Event()
            await self._news.wait()

    async def until_succeeded(self, client: Client, uri: str) -> None:
        """Read the video again whenever it is told to have changed, until it has succeeded."""
        while True:
            heard = self.heard.count(uri)
            if (await text(client, uri))["state"] == "succeeded":
                return
            await self.hears(uri, heard + 1)

    @asynccontextmanager
    async def on(self, client: Client, uri: str) -> AsyncIterator[None]:
        """Be told about one resource."""
        if client.protocol_version < "2026":
            await client.subscribe_resource(uri)
            yield
            await client.unsubscribe_resource(uri)
            return
        async with client.listen(resource_subscriptions=[uri]) as events, anyio.create_task_group() as listening:

            async def listen() -> None:
                async for event in events:
                    assert isinstance(event, ResourceUpdated)
                    self.hear(event.uri)

            listening.start_soon(listen)
            yield
            listening.cancel_scope.cancel()
