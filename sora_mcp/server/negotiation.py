"""Serve one client over a pair of streams, and keep its protocol era undecided as long as it only probes.

The SDK determines the era from the client's first request. Some hosts probe with `server/discover`, wait for a second,
and then shake hands as clients of the older era do, on the same pipe; they would be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import anyio
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream, WriteStream

Frame = SessionMessage | Exception
"""A message of the client, or the error of a line that could not be read."""

PROBE_TIMEOUT_S = 2.0
"""Seconds that `initialize` waits for the answers to the probes before it; otherwise they would be lost."""


async def serve(server: Server[Any], incoming: ReadStream[Frame], outgoing: WriteStream[SessionMessage]) -> None:
    """Serve until `incoming` ends, in the era of the client's first request; but if only `server/discover` came before
    an `initialize`, switch to the older era."""
    responses = _Responses(outgoing)
    frames = _Frames(incoming, responses)
    options = server.create_initialization_options()
    async with server.lifespan(server) as state, incoming, outgoing:
        await serve_dual_era_loop(server, frames, responses, lifespan_state=state, init_options=options)
        if frames.is_reopened:
            await serve_dual_era_loop(server, frames, responses, lifespan_state=state, init_options=options)


class _UnclosedStream:
    """A stream that is not closed by the loop that uses it, since another loop may follow."""

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


class _Responses(_UnclosedStream):
    """The server's messages; tracks which probes were answered."""

    def __init__(self, outgoing: WriteStream[SessionMessage]) -> None:
        self._outgoing = outgoing
        self._pending: set[str] = set()
        self._settled = anyio.Event()

    async def send(self, item: SessionMessage, /) -> None:
        await self._outgoing.send(item)
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self.settle(item.message.id)

    def expect(self, request_id: object) -> None:
        self._pending.add(str(request_id))

    def settle(self, request_id: object) -> None:
        """Note that a request was answered, or no longer needs an answer."""
        self._pending.discard(str(request_id))
        if not self._pending:
            self._settled.set()

    async def wait_until_sent(self) -> None:
        """Wait for the expected answers, for PROBE_TIMEOUT_S at most."""
        if self._pending:
            self._settled = anyio.Event()
            with anyio.move_on_after(PROBE_TIMEOUT_S):
                await self._settled.wait()


class _Frames(_UnclosedStream):
    """The client's messages; they end before an `initialize` that switches to the older era, and resume with it."""

    def __init__(self, incoming: ReadStream[Frame], responses: _Responses) -> None:
        self._incoming = incoming
        self._responses = responses
        self._is_probed = False
        self._is_decided = False
        self._initialize: Frame | None = None

    @property
    def is_reopened(self) -> bool:
        """Whether there is more to read, in the older era."""
        return self._initialize is not None

    async def receive(self) -> Frame:
        if self._initialize is not None:
            frame, self._initialize = self._initialize, None
            return frame
        frame = await self._incoming.receive()
        if not self._is_decided and isinstance(frame, SessionMessage) and await self._reopens_with(frame):
            self._initialize = frame
            raise anyio.EndOfStream
        return frame

    async def _reopens_with(self, frame: SessionMessage) -> bool:
        message = frame.message
        if isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            self._responses.settle((message.params or {}).get("requestId"))
        if not isinstance(message, JSONRPCRequest):
            return False
        if message.method == "server/discover":
            self._is_probed = True
            self._responses.expect(message.id)
            return False
        self._is_decided = True
        if message.method != "initialize" or not self._is_probed:
            return False
        await self._responses.wait_until_sent()
        return True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
