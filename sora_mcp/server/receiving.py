"""Tell an ASGI app that its client has disconnected although it has not, so that the app stops waiting."""

from __future__ import annotations

import anyio
from starlette.types import Message, Receive


class ClosableReceive:
    """A `receive` that reports a disconnect once `close` was called."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._under_way: set[anyio.CancelScope] = set()
        self.is_closed = False

    async def __call__(self) -> Message:
        with anyio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                if not self.is_closed:
                    return await self._receive()
            finally:
                self._under_way.discard(scope)
        return {"type": "http.disconnect"}

    def close(self) -> None:
        """Report a disconnect from now on, to pending calls too."""
        self.is_closed = True
        for scope in self._under_way:
            scope.cancel()
