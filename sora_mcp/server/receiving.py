"""Telling an ASGI app that its client is gone, though it is not: what the app waits for ends then."""

from __future__ import annotations

import anyio
from starlette.types import Message, Receive


class Receiving:
    """A `receive` to which the client is gone once `end` was called."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._under_way: set[anyio.CancelScope] = set()
        self.has_ended = False

    async def __call__(self) -> Message:
        with anyio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                if not self.has_ended:
                    return await self._receive()
            finally:
                self._under_way.discard(scope)
        return {"type": "http.disconnect"}

    def end(self) -> None:
        """From now on the client is gone, for those who wait for it, too."""
        self.has_ended = True
        for scope in self._under_way:
            scope.cancel()
