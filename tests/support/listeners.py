"""A client that is notified of resource changes, on both protocol eras."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import mcp_types as types
from mcp import Client
from mcp.client.subscriptions import ResourceUpdated
from resources import text


class ChangeListener:
    """Records change notifications of a client, in the way of its era."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self._changed = anyio.Event()

    async def __call__(self, message: object) -> None:
        """A message of the handshake era."""
        if isinstance(message, types.ResourceUpdatedNotification):
            self.record(message.params.uri)

    def record(self, uri: str) -> None:
        self.received.append(uri)
        self._changed.set()

    async def wait_for(self, uri: str, times: int = 1) -> None:
        """Wait until a URI was received this many times."""
        while self.received.count(uri) < times:
            self._changed = anyio.Event()
            await self._changed.wait()

    async def wait_until_succeeded(self, client: Client, uri: str) -> None:
        """Read the video again after every change notification, until it has succeeded."""
        while True:
            received = self.received.count(uri)
            if (await text(client, uri))["state"] == "succeeded":
                return
            await self.wait_for(uri, received + 1)

    @asynccontextmanager
    async def subscribed(self, client: Client, uri: str) -> AsyncIterator[None]:
        """Subscribe to one resource."""
        if client.protocol_version < "2026":
            await client.subscribe_resource(uri)
            yield
            await client.unsubscribe_resource(uri)
            return
        async with client.listen(resource_subscriptions=[uri]) as events, anyio.create_task_group() as listening:

            async def listen() -> None:
                async for event in events:
                    assert isinstance(event, ResourceUpdated)
                    self.record(event.uri)

            listening.start_soon(listen)
            yield
            listening.cancel_scope.cancel()
