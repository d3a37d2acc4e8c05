"""Serving an ASGI app until a signal ends it; connections and what they may take are bounded."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

REQUEST_WITHIN_S = 10.0
"""Seconds for the head of a request, from the connection's first moment, and between any two parts of its body."""
TELL_AGAIN_AFTER_S = 60.0
"""Seconds between two lines in the log about connections that cannot be taken."""
ACCEPTED_AT_ONCE = 4
"""Connections that are taken in one turn of the event loop, so that the next ones find the first ones counted."""
BODY_WITHIN_S = 300.0
"""Seconds for a body as a whole: 20 MB at half a megabit a second."""
UNREAD_FOR_S = 30.0
"""Seconds for which a client may read nothing of what waits for it."""
GRACE_S = 55.0
"""Seconds that an ending process gives the calls under way: a call answers within 50 (hosts give up after 60)."""
_ASKS_WITHIN_S = 0.25
"""Seconds in which a connection that an ending process has just taken is to say what it asks for."""
_WRITTEN_WITHIN_S = 5
"""Seconds more for their answers to be written. Then clients are cut off."""
_ENDS_WITHIN_S = 2
"""Seconds more in which what was done for these is to end, before it is cancelled wherever it stands."""
HELD_BYTES = 65_536
"""Bytes of an answer that are held back at most, for the rest of the turn."""
MOST_CONNECTIONS = 1024
_KEPT_FREE = 128
"""Descriptors that connections of clients leave to everything else, where the process may have so many."""

_USED_UP = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class _Listener(socket.socket):
    """A socket that takes a few connections at a time; asyncio would take all that wait before it looks at one."""

    _left = ACCEPTED_AT_ONCE

    def take_all(self) -> list[socket.socket]:
        """Take every connection that waits."""
        taken = []
        with suppress(OSError):  # there is none any more, or no descriptor for it
            while True:
                taken.append(super().accept()[0])
        return taken

    def accept(self) -> tuple[socket.socket, Any]:
        """As any socket's; BlockingIOError (come again) where enough were taken in this turn."""
        if self._left == 0:
            raise BlockingIOError
        if self._left == ACCEPTED_AT_ONCE:
            asyncio.get_running_loop().call_soon(self._replenish)
        self._left -= 1
        return super().accept()

    def _replenish(self) -> None:
        self._left = ACCEPTED_AT_ONCE


class _JoinedWrites:
    """A transport that sends what is written in one turn of the event loop at once. uvicorn writes the head of an
    answer, its body and its end one by one: each would be a packet, and would wake its reader.

    `unread` is called where it is closed while something still waits to be read: it stays open for that.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, unread: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._unread = unread
        self._held = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data and not self._held:
            self._loop.call_soon(self._flush)
        self._held += data
        if len(self._held) > HELD_BYTES:
            self._flush()

    def get_write_buffer_size(self) -> int:
        return len(self._held) + self._transport.get_write_buffer_size()

    def close(self) -> None:
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._unread()

    def _flush(self) -> None:
        held, self._held = self._held, bytearray()
        if held and not self._transport.is_closing():
            self._transport.write(held)


class _Connection(H11Protocol):
    """One client's connection. It is cut where a request takes too long to arrive, and where there are too many and
    this one waits for its next request longest."""

    _timer: asyncio.TimerHandle | None = None
    _idle_since = math.inf
    _body_until = math.inf
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in H11Protocol
        joined = _JoinedWrites(transport, self.loop, self._expect_reading)
        super().connection_made(cast("asyncio.Transport", joined))
        self._idle_since = self.loop.time()
        self._watch()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_watching()
        self._stop_expecting()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # of the next request, which came behind this one
            self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; where the request was answered already, or is just being, there is no more to say."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _should_upgrade(self) -> bool:
        """Nothing else is spoken here. The library would also tell whoever runs the server to install more."""
        return False

    def pause_writing(self) -> None:
        """More waits to be written than the client has read: it is cut off where that stays so."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_expecting()

    def _expect_reading(self) -> None:
        self._stop_expecting()
        waiting = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() < waiting:
                self._expect_reading()
            else:
                self.transport.abort()

        self._reading = self.loop.call_later(UNREAD_FOR_S, look)

    def _stop_expecting(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _watch(self) -> None:
        """Time the request that is arriving: its head as a whole, its body from one part to the next."""
        in_head = self.conn.their_state is h11.IDLE
        if in_head and self._timer is not None:
            return
        self._stop_watching()
        now, until = self.loop.time(), math.inf
        if self.conn.their_state is h11.SEND_BODY:
            until = self._body_until if self._body_until < math.inf else now + BODY_WITHIN_S
        self._body_until = until
        if in_head or until < math.inf:
            self._timer = self.loop.call_at(min(now + REQUEST_WITHIN_S, until), self._refuse, b"408 Request Timeout")

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_room(self) -> None:
        waiting = [each for each in self.connections if isinstance(each, _Connection) and each.is_idle()]
        longest = min(waiting, key=lambda each: each._idle_since, default=self)  # noqa: SLF001 - of this class
        longest._refuse(b"503 Service Unavailable")  # noqa: SLF001 - of this class

    def is_idle(self) -> bool:
        """Whether no request is under way: none has come, or the last one was answered, though its body may still be
        coming in: a stranger is answered before that."""
        return self.conn.their_state is h11.IDLE if self.cycle is None else bool(self.cycle.response_complete)

    def _refuse(self, status: bytes) -> None:
        """Close it, with a status where nothing was answered yet."""
        self._timer = None
        self.connections.discard(self)  # it counts no more from now on
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE} and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self.transport.close()


class _Troubles:
    """What goes wrong in the event loop: one line a minute of connections that cannot be taken, the rest as usual.

    asyncio would log a traceback for each attempt, thousands of them a second.
    """

    def __init__(self) -> None:
        self._next_at = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _USED_UP and "socket" in context):
            loop.default_exception_handler(context)
        elif loop.time() >= self._next_at:
            self._next_at = loop.time() + TELL_AGAIN_AFTER_S
            logger.error("no connection can be taken: %s; what is under way goes on", error.strerror)


Ending = Callable[[], Awaitable[None]]


async def _nothing() -> None: ...


class _Server(uvicorn.Server):
    """uvicorn, telling when clients can connect (to which port, where a free one was asked for), and when it ends."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[int], None], ending: Ending) -> None:
        super().__init__(config)
        self._ready = ready
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_Troubles())
        await super().startup(sockets)
        if self.started:
            self._ready(int(self.servers[0].sockets[0].getsockname()[1]))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._stop_listening(sockets or [])
        ending = asyncio.ensure_future(self._ending())
        cut_off = asyncio.get_running_loop().call_later(GRACE_S + _WRITTEN_WITHIN_S, self._cut_off)
        try:
            await super().shutdown(sockets)
        finally:
            cut_off.cancel()
            ending.cancel()

    def _cut_off(self) -> None:
        """End the connections that are left, such as long downloads: those who serve them notice, and end by
        themselves."""
        left = list(self.server_state.connections)
        logger.warning("ending: clients that are still connected are cut off: %d", len(left))
        for each in left:
            each.transport.abort()

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Take the connections that were made already, and hear what they ask for: a proxy that is connected sends its
        request, and may send it to no other server then."""
        taken = [each for listener in sockets if isinstance(listener, _Listener) for each in listener.take_all()]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for each in taken:
            await loop.connect_accepted_socket(self._connection, each)
        await asyncio.sleep(_ASKS_WITHIN_S)

    def _connection(self) -> _Connection:
        return _Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def listen(
    app: Any,
    host: str,
    port: int,
    ready: Callable[[str], None],
    *,
    ending: Ending = _nothing,
    connections: set[Any] | None = None,
) -> None:
    """Serve `app`; port 0 picks a free port. `ready` is told the base address.

    At SIGTERM or SIGINT no connection is taken any more but those that were made already, and requests under way have
    GRACE_S seconds to be finished; `ending` runs meanwhile, and ends what never would by itself. `connections` holds a
    member for each that is open. Raises OSError where the port cannot be had.
    """

    def tell(taken: int) -> None:
        ready(f"http://{f'[{host}]' if ':' in host else host}:{taken}")

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio",  # the listener and the connection are this one's
        http=_Connection,
        ws="none",
        log_config=None,  # it logs as everything else does
        limit_concurrency=most_connections(),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(GRACE_S) + _WRITTEN_WITHIN_S + _ENDS_WITHIN_S,
    )
    server = _Server(config, tell, ending)
    if connections is not None:
        server.server_state.connections = connections
    bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # asyncio sends small parts at once (TCP_NODELAY) only where the socket says that it is TCP's.
    with _Listener(bound.family, bound.type, socket.IPPROTO_TCP, fileno=bound.detach()) as listener:
        server.run([listener])


def most_connections() -> int:
    """How many clients may be connected: the gateway, the ledger and files need descriptors too."""
    if sys.platform == "win32":
        return MOST_CONNECTIONS
    import resource  # noqa: PLC0415 - not on every platform

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(max(allowed // 4, allowed - _KEPT_FREE), MOST_CONNECTIONS)
