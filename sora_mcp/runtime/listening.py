"""Serve an ASGI app until a signal stops it, with limits on connections and on what each may use."""

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

REQUEST_TIMEOUT_S = 10.0
"""Seconds for the head of a request, from the moment it connects, and between two parts of its body."""
LOG_INTERVAL_S = 60.0
"""Seconds between two log lines about connections that cannot be accepted."""
MAX_ACCEPTS_PER_TURN = 4
"""Connections accepted in one turn of the event loop, so that the first are counted before the next are accepted."""
BODY_TIMEOUT_S = 300.0
"""Seconds for a whole body: 20 MB at half a megabit a second."""
UNREAD_TIMEOUT_S = 30.0
"""Seconds for which a client may read nothing of the data waiting for it."""
GRACE_S = 55.0
"""Seconds that calls in progress get at shutdown: a call answers within 50 (hosts give up after 60)."""
_FIRST_REQUEST_TIMEOUT_S = 0.5
"""Seconds for a connection accepted at shutdown to send its request."""
_WRITE_TIMEOUT_S = 5
"""Seconds after GRACE_S for the answers to be written. Then clients are disconnected."""
_CLEANUP_TIMEOUT_S = 2
"""Seconds after that for their handlers to finish before they are cancelled."""
MAX_BUFFERED_BYTES = 65_536
"""Bytes of an answer buffered until the end of the turn."""
MAX_CONNECTIONS = 1024
_RESERVED_DESCRIPTORS = 128
"""File descriptors left for everything except client connections, if the process may have that many."""

_RESOURCE_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class _Listener(socket.socket):
    """A socket that accepts a few connections per turn; asyncio would accept all pending ones before serving one."""

    _remaining = MAX_ACCEPTS_PER_TURN

    def accept_all(self) -> list[socket.socket]:
        """Accept every pending connection."""
        accepted = []
        with suppress(OSError):  # none is pending, or no descriptor is free
            while True:
                accepted.append(super().accept()[0])
        return accepted

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raise BlockingIOError (try again) if enough were accepted in this turn."""
        if self._remaining == 0:
            raise BlockingIOError
        if self._remaining == MAX_ACCEPTS_PER_TURN:
            asyncio.get_running_loop().call_soon(self._replenish)
        self._remaining -= 1
        return super().accept()

    def _replenish(self) -> None:
        self._remaining = MAX_ACCEPTS_PER_TURN


class _BufferedTransport:
    """A transport that sends everything written in one turn of the event loop together. uvicorn writes the head of an
    answer, its body and its end one by one: each would be a packet, and would wake its reader.

    `on_unread` is called if it is closed while the client has data left to read: it stays open for that.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, on_unread: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._on_unread = on_unread
        self._buffer = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data and not self._buffer:
            self._loop.call_soon(self._flush)
        self._buffer += data
        if len(self._buffer) > MAX_BUFFERED_BYTES:
            self._flush()

    def get_write_buffer_size(self) -> int:
        return len(self._buffer) + self._transport.get_write_buffer_size()

    def close(self) -> None:
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._on_unread()

    def _flush(self) -> None:
        data, self._buffer = self._buffer, bytearray()
        if data and not self._transport.is_closing():
            self._transport.write(data)


class _Connection(H11Protocol):
    """One client's connection. It is closed if a request takes too long to arrive, or if there are too many
    connections and this one has been idle longest."""

    _timer: asyncio.TimerHandle | None = None
    _idle_since = math.inf
    _body_deadline = math.inf
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in H11Protocol
        joined = _BufferedTransport(transport, self.loop, self._start_read_timer)
        super().connection_made(cast("asyncio.Transport", joined))
        self._idle_since = self.loop.time()
        self._start_timer()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()
        self._stop_read_timer()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # of the next, pipelined request
            self._start_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with 400; just close if an answer to the request was sent or is being sent."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _should_upgrade(self) -> bool:
        """Never: only HTTP is served. The library would also log advice to install more packages."""
        return False

    def pause_writing(self) -> None:
        """Start the read timer: the write buffer is full, and the client is disconnected if it stays so."""
        super().pause_writing()
        self._start_read_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_read_timer()

    def _start_read_timer(self) -> None:
        self._stop_read_timer()
        pending = self.transport.get_write_buffer_size()

        def check() -> None:
            if self.transport.get_write_buffer_size() < pending:
                self._start_read_timer()
            else:
                self.transport.abort()

        self._read_timer = self.loop.call_later(UNREAD_TIMEOUT_S, check)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _start_timer(self) -> None:
        """Time the arriving request: its head as a whole, its body from one part to the next."""
        is_head = self.conn.their_state is h11.IDLE
        if is_head and self._timer is not None:
            return
        self._stop_timer()
        now, deadline = self.loop.time(), math.inf
        if self.conn.their_state is h11.SEND_BODY:
            deadline = self._body_deadline if self._body_deadline < math.inf else now + BODY_TIMEOUT_S
        self._body_deadline = deadline
        if is_head or deadline < math.inf:
            self._timer = self.loop.call_at(
                min(now + REQUEST_TIMEOUT_S, deadline), self._refuse, b"408 Request Timeout"
            )

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_room(self) -> None:
        pending = [each for each in self.connections if isinstance(each, _Connection) and each.is_idle()]
        longest = min(pending, key=lambda each: each._idle_since, default=self)  # noqa: SLF001 - of this class
        longest._refuse(b"503 Service Unavailable")  # noqa: SLF001 - of this class

    def is_idle(self) -> bool:
        """Return whether no request is in progress: none has come, or the last one was answered. Its body may still be
        arriving: an unauthenticated client is answered before that."""
        return self.conn.their_state is h11.IDLE if self.cycle is None else bool(self.cycle.response_complete)

    def _refuse(self, status: bytes) -> None:
        """Close the connection, with a status if nothing was answered yet."""
        self._timer = None
        self.connections.discard(self)  # it no longer counts
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE} and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self.transport.close()


class _LoopErrorHandler:
    """Exception handler of the event loop: logs one line a minute about connections that cannot be accepted, and
    everything else as usual.

    asyncio would log a traceback for each attempt, thousands of them a second.
    """

    def __init__(self) -> None:
        self._next_log_at = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _RESOURCE_ERRNOS and "socket" in context):
            loop.default_exception_handler(context)
        elif loop.time() >= self._next_log_at:
            self._next_log_at = loop.time() + LOG_INTERVAL_S
            logger.error("new connections cannot be accepted: %s; requests under way continue", error.strerror)


ShutdownHook = Callable[[], Awaitable[None]]


async def _no_hook() -> None: ...


class _Server(uvicorn.Server):
    """uvicorn with hooks: `ready` gets the port once clients can connect; `on_shutdown` runs during shutdown."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[int], None], on_shutdown: ShutdownHook) -> None:
        super().__init__(config)
        self._ready = ready
        self._on_shutdown = on_shutdown

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_LoopErrorHandler())
        await super().startup(sockets)
        if self.started:
            self._ready(int(self.servers[0].sockets[0].getsockname()[1]))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._stop_listening(sockets or [])
        hook = asyncio.ensure_future(self._on_shutdown())
        cut_off = asyncio.get_running_loop().call_later(GRACE_S + _WRITE_TIMEOUT_S, self._abort_connections)
        try:
            await super().shutdown(sockets)
        finally:
            cut_off.cancel()
            hook.cancel()

    def _abort_connections(self) -> None:
        """Abort the remaining connections, such as long downloads; their handlers notice and finish."""
        remaining = list(self.server_state.connections)
        logger.warning("shutting down: clients that are still connected are cut off: %d", len(remaining))
        for each in remaining:
            each.transport.abort()

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Stop listening, but accept pending connections and read their requests: a proxy that is connected sends its
        request here, and may not send it to another server afterwards."""
        accepted = [each for listener in sockets if isinstance(listener, _Listener) for each in listener.accept_all()]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for each in accepted:
            await loop.connect_accepted_socket(self._create_connection, each)
        await asyncio.sleep(_FIRST_REQUEST_TIMEOUT_S)

    def _create_connection(self) -> _Connection:
        return _Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def listen(
    app: Any,
    host: str,
    port: int,
    ready: Callable[[str], None],
    *,
    on_shutdown: ShutdownHook = _no_hook,
    connections: set[Any] | None = None,
) -> None:
    """Serve `app`; port 0 picks a free port. `ready` is called with the base address.

    At SIGTERM or SIGINT only connections that were already made are still accepted, and requests in progress get
    GRACE_S seconds to finish; `on_shutdown` runs meanwhile, and ends whatever would never end by itself. `connections`
    holds a member for each open connection. Raise OSError if the port cannot be bound.
    """

    def report_address(bound_port: int) -> None:
        ready(f"http://{f'[{host}]' if ':' in host else host}:{bound_port}")

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio",  # _Listener and _Connection need it
        http=_Connection,
        ws="none",
        log_config=None,  # it logs like everything else
        limit_concurrency=max_connections(),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(GRACE_S) + _WRITE_TIMEOUT_S + _CLEANUP_TIMEOUT_S,
    )
    server = _Server(config, report_address, on_shutdown)
    if connections is not None:
        server.server_state.connections = connections
    sock = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # asyncio sends small parts at once (TCP_NODELAY) only if the socket says that its protocol is TCP.
    with _Listener(sock.family, sock.type, socket.IPPROTO_TCP, fileno=sock.detach()) as listener:
        server.run([listener])


def max_connections() -> int:
    """Return how many clients may be connected: the gateway, the ledger and files need descriptors too."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource  # noqa: PLC0415 - not on every platform

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(max(limit // 4, limit - _RESERVED_DESCRIPTORS), MAX_CONNECTIONS)
