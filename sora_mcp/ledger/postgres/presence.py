"""The presence of servers: each holds one connection open, with a lock by which others see that it lives.

The lock is PostgreSQL's own (a session's advisory lock): it is released the moment the server is killed, and held for
as long as it lives, even while it is stopped. The same connection listens for changes by other servers.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import anyio
import psycopg

from sora_mcp.core.errors import SoraError
from sora_mcp.ledger.postgres.connection import CHANGES_CHANNEL, SERVERS_CHANNEL, Connection, abort_after
from sora_mcp.ledger.postgres.migrations import MIGRATION_LOCK

logger = logging.getLogger(__name__)

WRITER_KEY = "('x' || writer)::bit(64)::bigint"
_LOCK_KEY = "((classid::bigint << 32) | objid::bigint)"
"""The key of an advisory lock, which pg_locks shows in two halves."""
IS_LOCKED = (
    "EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"  # noqa: S608 - our own text
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    f" AND {_LOCK_KEY} = {{key}})"
)
"""Whether any session holds the lock of a key."""
ALIVE = f"CASE WHEN writer ~ '^[0-9a-f]{{16}}$' THEN {IS_LOCKED.format(key=WRITER_KEY)} ELSE FALSE END"  # our own text
"""Whether the writer of a row lives."""
LIVING_SENDERS = f"SELECT request_id FROM videos WHERE state = 'sending' AND {ALIVE}"  # noqa: S608 - our own text
DEAD_SENDERS = f"SELECT request_id FROM videos WHERE state = 'sending' AND NOT {ALIVE}"  # noqa: S608 - our own text

POLL_INTERVAL_S = 1.0
"""The minimum seconds that a listener waits for a notification."""
REQUEST_ID_PREFIX = "req_"
"""The prefix of request ids."""
CONNECT_TIMEOUT_S = 5.0
"""Seconds within which the connection has to be made."""
_ANSWER_TIMEOUT_S = 2.0
"""Seconds without an answer after which another connection is tried."""
_NEWEST = (
    "SELECT request_id FROM videos WHERE %s = '' OR EXISTS (SELECT 1 FROM videos WHERE request_id = %s)"
    " ORDER BY number DESC LIMIT 1"
)
_END_STOPPED = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"  # noqa: S608 - our own
    " AND usename = session_user AND state = 'active' AND wait_event = 'ClientRead'"
    " AND query_start < clock_timestamp() - interval '5s'"
    " AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock'"
    f" AND objsubid = 1 AND {_LOCK_KEY} = {MIGRATION_LOCK})"
)
"""Ends transactions of servers that were stopped between two statements, so that others get their locks.

If their answers were requested, PostgreSQL does so itself (idle_in_transaction_session_timeout)."""
_END_STOPPED_INTERVAL_S = 5.0
_RETRY_DELAYS_S = (0.5, 1, 2, 4)
"""Seconds between attempts to connect; the last one is repeated."""
_MAINTENANCE_INTERVAL_S = 5.0
_SET_UP = "SET lock_timeout = '1s'"
"""A table that is locked for long, as by VACUUM FULL, does not keep this server from listening."""
_CLOSE_TIMEOUT_S = 0.3
_MAX_KNOWN_REQUESTS = 1000


class Listener:
    """Waits for changes of one entry; see `Ledger.listen`. `connected`: set while this server gets notifications."""

    def __init__(self, connected: threading.Event) -> None:
        self._connected = connected
        self._was_connected = False  # changes before this were missed
        self.changed = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """See `protocol.Listener.wait`."""
        with anyio.move_on_after(max(seconds, POLL_INTERVAL_S)):
            await self.changed.wait()
        may_have_changed = self.changed.is_set() or not self._was_connected
        self.changed.clear()
        self._was_connected = self._connected.is_set()
        return may_have_changed


class Presence:
    """This server's presence among those that share the ledger; its thread starts when it is first needed.

    `maintain`: called in that thread, again and again, while the database is connected.
    """

    def __init__(self, connect: Callable[[], Connection], maintain: Callable[[], None]) -> None:
        self._connect = connect
        self._maintain = maintain
        self.newest_request = ""
        """The newest request of any server that is known here: if it is missing, others are, too."""
        self._known_requests: OrderedDict[str, None] = OrderedDict()  # whose methods threads may call at any time
        self._writer: str | None = None
        self._connection: Connection | None = None
        self._is_locked = threading.Event()
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_message: Callable[[str], None] | None = None

    @property
    def writer(self) -> str | None:
        """This server's current id as a writer; None while it holds no lock."""
        return self._writer if self._is_locked.is_set() else None

    def wait_for_lock(self) -> bool:
        """Wait for the lock for CONNECT_TIMEOUT_S, and return whether it is held."""
        self.start()
        return self._is_locked.wait(CONNECT_TIMEOUT_S)

    def report_lost(self, writer: str) -> None:
        """Drop the connection, as the lock of this id is not held any more; another one is acquired."""
        if self._writer == writer:
            self._is_locked.clear()
            self._abort()

    def add_known(self, request_id: str) -> None:
        """Add a request of this server: its announcement is no news."""
        self._known_requests[request_id] = None

    def start(self) -> None:
        """Start the thread that listens, once."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sora-ledger-presence", daemon=True)
                self._thread.start()

    def on_broadcast(self, on_message: Callable[[str], None]) -> None:
        """Call `on_message` in this event loop with what servers broadcast."""
        self._loop, self._on_message = asyncio.get_running_loop(), on_message
        self.start()

    @contextmanager
    def listen(self, request_id: str) -> Iterator[Listener]:
        """See Ledger.listen."""
        self.start()
        self._loop = asyncio.get_running_loop()
        listener = Listener(self._is_locked)
        listeners = self._listeners[request_id]
        listeners.add(listener)
        try:
            yield listener
        finally:
            listeners.discard(listener)
            if not listeners:
                self._listeners.pop(request_id, None)

    def close(self) -> None:
        """Release the lock, and stop listening."""
        self._is_closing.set()
        self._abort()
        if self._thread is not None:
            self._thread.join(_CLOSE_TIMEOUT_S)

    def _abort(self) -> None:
        if (connection := self._connection) is not None:
            connection.abort()

    def _run(self) -> None:
        failures = 0
        while not self._is_closing.is_set():
            try:
                with closing(self._connect()) as self._connection:
                    self._listen(self._connection)
            except (psycopg.Error, SoraError):
                if not self._is_closing.is_set():
                    logger.info("the connection that listens for changes of the ledger was lost, or cannot be opened")
            except Exception:
                logger.exception("listening to the ledger failed unexpectedly")  # and it is begun again
            failures = 0 if self._is_locked.is_set() else failures + 1
            self._is_locked.clear()
            self._is_closing.wait(_RETRY_DELAYS_S[min(failures, len(_RETRY_DELAYS_S) - 1)])

    def _listen(self, connection: Connection) -> None:
        writer = secrets.token_hex(8)
        with abort_after(CONNECT_TIMEOUT_S, connection):
            connection.execute(f"{_SET_UP}; LISTEN {CHANGES_CHANNEL}; LISTEN {SERVERS_CHANNEL}".encode())
            self._catch_up(connection)  # paid calls need to know the newest request
            connection.execute("SELECT pg_advisory_lock(('x' || %s)::bit(64)::bigint)", [writer])
        self._writer = writer
        self._is_locked.set()
        self._call_in_loop(self._wake_all)  # changes meanwhile were not announced here
        end_stopped_at = 0.0
        while not self._is_closing.is_set():
            self._maintain()
            with self._abort_if_lost(connection):
                self._catch_up(connection)
                if time.monotonic() >= end_stopped_at:
                    end_stopped_at = time.monotonic() + _END_STOPPED_INTERVAL_S
                    with suppress(psycopg.errors.InsufficientPrivilege):
                        connection.execute(_END_STOPPED.encode())
            self._listen_until_new_request(connection)

    @contextmanager
    def _abort_if_lost(self, connection: Connection) -> Iterator[None]:
        """Abort a connection that does not answer while another one does: the network has lost it.

        If none answers, PostgreSQL may hang, and this connection still works when it goes on.
        """
        answered = threading.Event()

        def watch() -> None:
            while not answered.wait(_ANSWER_TIMEOUT_S):
                with suppress(psycopg.Error, SoraError), closing(self._connect()) as another:
                    self._catch_up(another)  # the same is asked: it may take long
                    if not answered.wait(POLL_INTERVAL_S):
                        connection.abort()
                    return

        threading.Thread(target=watch, name="sora-ledger-watch", daemon=True).start()
        try:
            yield
        finally:
            answered.set()

    def _listen_until_new_request(self, connection: Connection) -> None:
        """Deliver notifications until one is of an unknown request, or it is time for maintenance."""
        deadline, is_new = time.monotonic() + _MAINTENANCE_INTERVAL_S, False
        while not (is_new or self._is_closing.is_set()) and (left := deadline - time.monotonic()) > 0:
            for notice in connection.notifies(timeout=left, stop_after=1):
                if notice.channel == SERVERS_CHANNEL:
                    self._deliver(notice.payload)
                    continue
                self._notify(notice.payload)
                is_new = is_new or (
                    notice.payload.startswith(REQUEST_ID_PREFIX) and notice.payload not in self._known_requests
                )
                self._known_requests[notice.payload] = None
        while len(self._known_requests) > _MAX_KNOWN_REQUESTS:
            self._known_requests.popitem(last=False)

    def _catch_up(self, connection: Connection) -> None:
        """Learn of requests begun while this server did not listen. If the newest known one is missing, it is kept."""
        # The table may be in the middle of being created or repaired.
        with suppress(psycopg.errors.UndefinedTable, psycopg.errors.LockNotAvailable):
            newest = connection.execute(_NEWEST, [self.newest_request, self.newest_request]).fetchone()
            self.newest_request = self.newest_request if newest is None else str(newest[0])

    def _deliver(self, message: str) -> None:
        if self._on_message is not None:
            self._call_in_loop(self._on_message, message)

    def _notify(self, request_id: str) -> None:
        if request_id in self._listeners:
            self._call_in_loop(self._wake, request_id)

    def _call_in_loop(self, call: Callable[..., None], *arguments: str) -> None:
        """Schedule a call in the listeners' event loop, if there is one."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(call, *arguments)

    def _wake_all(self) -> None:
        for request_id in self._listeners:
            self._wake(request_id)

    def _wake(self, request_id: str) -> None:
        for listener in self._listeners.get(request_id, ()):
            listener.changed.set()
