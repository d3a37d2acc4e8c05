"""Serving one client over a pair of streams, whose protocol era is open for as long as it only asks what there is.

The SDK takes the first request for the client's era. Some hosts probe with `server/discover`, wait for a second, and
then shake hands as clients of the older era do, on the same pipe; they would be refused.
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
"""A message of the client, or why a line of it could not be read."""

ANSWERED_WITHIN_S = 2.0
"""Seconds that `initialize` waits for the answers to the probes before it: they are lost where it does not."""


async def serve(server: Server[Any], incoming: ReadStream[Frame], outgoing: WriteStream[SessionMessage]) -> None:
    """Serve until `incoming` ends, in the era of the client's first request; but where nothing except
    `server/discover` came before an `initialize`, that opens the older era."""
    answers = _Answers(outgoing)
    frames = _Frames(incoming, answers)
    options = server.create_initialization_options()
    async with server.lifespan(server) as state, incoming, outgoing:
        await serve_dual_era_loop(server, frames, answers, lifespan_state=state, init_options=options)
        if frames.reopens:
            await serve_dual_era_loop(server, frames, answers, lifespan_state=state, init_options=options)


class _Open:
    """A stream that the loop which reads or writes it does not close: another may follow."""

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


class _Answers(_Open):
    """What the server says; it is known which of the probes were answered."""

    def __init__(self, outgoing: WriteStream[SessionMessage]) -> None:
        self._outgoing = outgoing
        self._awaited: set[str] = set()
        self._settled = anyio.Event()

    async def send(self, item: SessionMessage, /) -> None:
        await self._outgoing.send(item)
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self.settle(item.message.id)

    def expect(self, request_id: object) -> None:
        self._awaited.add(str(request_id))

    def settle(self, request_id: object) -> None:
        """A request was answered, or needs no answer any more."""
        self._awaited.discard(str(request_id))
        if not self._awaited:
            self._settled.set()

    async def all_sent(self) -> None:
        """Wait for the answers that are expected, for a while."""
        if self._awaited:
            self._settled = anyio.Event()
            with anyio.move_on_after(ANSWERED_WITHIN_S):
                await self._settled.wait()


class _Frames(_Open):
    """What the client says; it ends before an `initialize` that opens the older era, and begins again with it."""

    def __init__(self, incoming: ReadStream[Frame], answers: _Answers) -> None:
        self._incoming = incoming
        self._answers = answers
        self._probed = False
        self._decided = False
        self._first: Frame | None = None

    @property
    def reopens(self) -> bool:
        """Whether there is more to be read, in the older era."""
        return self._first is not None

    async def receive(self) -> Frame:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        frame = await self._incoming.receive()
        if not self._decided and isinstance(frame, SessionMessage) and await self._opens_anew(frame):
            self._first = frame
            raise anyio.EndOfStream
        return frame

    async def _opens_anew(self, frame: SessionMessage) -> bool:
        message = frame.message
        if isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            self._answers.settle((message.params or {}).get("requestId"))
        if not isinstance(message, JSONRPCRequest):
            return False
        if message.method == "server/discover":
            self._probed = True
            self._answers.expect(message.id)
            return False
        self._decided = True
        if message.method != "initialize" or not self._probed:
            return False
        await self._answers.all_sent()
        return True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
