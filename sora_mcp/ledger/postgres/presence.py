"""Who is at work, and who is told: each server holds one connection open, with a lock by which others see it live.

The lock is PostgreSQL's own (a session's advisory lock): it is free the moment the server is killed, and held for as
long as it lives, even while it is stopped. The same connection listens for the entries that other servers change.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import anyio
import psycopg

from sora_mcp.core.errors import SoraError
from sora_mcp.ledger.postgres.connection import BETWEEN_SERVERS, CHANNEL, Connection, within
from sora_mcp.ledger.postgres.migrations import MIGRATION_LOCK

logger = logging.getLogger(__name__)

KEY_OF_WRITER = "('x' || writer)::bit(64)::bigint"
_KEY_OF_LOCK = "((classid::bigint << 32) | objid::bigint)"
"""The key of an advisory lock: pg_locks shows its halves."""
IS_HELD = (
    "EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"  # noqa: S608 - our own text
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    f" AND {_KEY_OF_LOCK} = {{key}})"
)
"""Whether somebody holds the lock of a key."""
ALIVE = f"CASE WHEN writer ~ '^[0-9a-f]{{16}}$' THEN {IS_HELD.format(key=KEY_OF_WRITER)} ELSE FALSE END"  # our own text
"""Whether the writer of a row lives."""
LIVING_SENDERS = f"SELECT request_id FROM videos WHERE state = 'sending' AND {ALIVE}"  # noqa: S608 - our own text
DEAD_SENDERS = f"SELECT request_id FROM videos WHERE state = 'sending' AND NOT {ALIVE}"  # noqa: S608 - our own text

LOOK_EVERY_S = 1.0
"""Seconds after which a listener goes on at the earliest that heard nothing."""
IDS = "req_"
"""With what the ids of requests begin."""
WITHIN_S = 5.0
"""Seconds in which the connection is to be there."""
_ANSWERS_WITHIN_S = 2.0
"""Seconds after which it is looked whether another one is answered."""
_NEWEST = (
    "SELECT request_id FROM videos WHERE %s = '' OR EXISTS (SELECT 1 FROM videos WHERE request_id = %s)"
    " ORDER BY number DESC LIMIT 1"
)
_END_STOPPED = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"  # noqa: S608 - our own
    " AND usename = session_user AND state = 'active' AND wait_event = 'ClientRead'"
    " AND query_start < clock_timestamp() - interval '5s'"
    " AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock'"
    f" AND objsubid = 1 AND {_KEY_OF_LOCK} = {MIGRATION_LOCK})"
)
"""Ends transactions of servers that were stopped between two statements: whoever waits for their locks goes on.

Where the answers were asked for PostgreSQL does so itself (idle_in_transaction_session_timeout)."""
_END_STOPPED_EVERY_S = 5.0
_AGAIN_AFTER_S = (0.5, 1, 2, 4)
"""Seconds between attempts to connect; the last one is repeated."""
_LOOK_EVERY_S = 5.0
_SET_UP = "SET lock_timeout = '1s'"
"""Whoever holds a table for long, as VACUUM FULL does, keeps this server from none of what it has to hear."""
_END_WITHIN_S = 0.3
_MOST_HEARD_OF = 1000


class Listener:
    """Who waits for one entry; see `Ledger.listen`. `connected`: set while this server is told of changes."""

    def __init__(self, connected: threading.Event) -> None:
        self._connected = connected
        self._was_connected = False  # before this nobody listened
        self.changed = asyncio.Event()

    async def heard(self, seconds: float) -> bool:
        """See the protocol's."""
        with anyio.move_on_after(max(seconds, LOOK_EVERY_S)):
            await self.changed.wait()
        may_have_changed = self.changed.is_set() or not self._was_connected
        self.changed.clear()
        self._was_connected = self._connected.is_set()
        return may_have_changed


class Presence:
    """This server's place among those that share the ledger; its thread starts when it is first needed.

    `look_after`: called in that thread, again and again, while the database is there.
    """

    def __init__(self, connect: Callable[[], Connection], look_after: Callable[[], None]) -> None:
        self._connect = connect
        self._look_after = look_after
        self.heard = ""
        """The newest request, of whichever server, that was seen here: where it is missing, others are, too."""
        self._heard_of: dict[str, None] = {}
        self._writer: str | None = None
        self._connection: Connection | None = None
        self._there = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_message: Callable[[str], None] | None = None

    @property
    def writer(self) -> str | None:
        """The id that stands for this server now; None where it holds no lock."""
        return self._writer if self._there.is_set() else None

    def wait(self) -> bool:
        """Whether the lock is held, within WITHIN_S."""
        self.start()
        return self._there.wait(WITHIN_S)

    def lost(self, writer: str) -> None:
        """The lock of this id is not held any more: wait for another."""
        if self._writer == writer:
            self._there.clear()
            self._shut()

    def start(self) -> None:
        """Begin to listen."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sora-ledger-presence", daemon=True)
                self._thread.start()

    def hear(self, on_message: Callable[[str], None]) -> None:
        """Call `on_message` with what servers tell each other, in this event loop."""
        self._loop, self._on_message = asyncio.get_running_loop(), on_message
        self.start()

    @contextmanager
    def listen(self, request_id: str) -> Iterator[Listener]:
        """See Ledger.listen."""
        self.start()
        self._loop = asyncio.get_running_loop()
        listener = Listener(self._there)
        listeners = self._listeners[request_id]
        listeners.add(listener)
        try:
            yield listener
        finally:
            listeners.discard(listener)
            if not listeners:
                self._listeners.pop(request_id, None)

    def end(self) -> None:
        """Give the lock back."""
        self._ended.set()
        self._shut()
        if self._thread is not None:
            self._thread.join(_END_WITHIN_S)

    def _shut(self) -> None:
        if (connection := self._connection) is not None:
            connection.shut()

    def _run(self) -> None:
        failures = 0
        while not self._ended.is_set():
            try:
                with closing(self._connect()) as self._connection:
                    self._listen(self._connection)
            except (psycopg.Error, SoraError):
                if not self._ended.is_set():
                    logger.info("the connection that listens to the ledger was lost, or cannot be made")
            except Exception:
                logger.exception("listening to the ledger failed unexpectedly")  # and it is begun again
            failures = 0 if self._there.is_set() else failures + 1
            self._there.clear()
            self._ended.wait(_AGAIN_AFTER_S[min(failures, len(_AGAIN_AFTER_S) - 1)])

    def _listen(self, connection: Connection) -> None:
        writer = secrets.token_hex(8)
        with within(WITHIN_S, connection):
            connection.execute(f"{_SET_UP}; LISTEN {CHANNEL}; LISTEN {BETWEEN_SERVERS}".encode())
            self._catch_up(connection)  # whoever pays knows what was there before
            connection.execute("SELECT pg_advisory_lock(('x' || %s)::bit(64)::bigint)", [writer])
        self._writer = writer
        self._there.set()
        self._in_loop(self._let_all_hear)  # what changed meanwhile was told to nobody here
        end_stopped_at = 0.0
        while not self._ended.is_set():
            self._look_after()
            with self._unless_lost(connection):
                self._catch_up(connection)
                if time.monotonic() >= end_stopped_at:
                    end_stopped_at = time.monotonic() + _END_STOPPED_EVERY_S
                    with suppress(psycopg.errors.InsufficientPrivilege):
                        connection.execute(_END_STOPPED.encode())
            self._hear_of_a_new_one(connection)

    @contextmanager
    def _unless_lost(self, connection: Connection) -> Iterator[None]:
        """Shut a connection that does not answer while another one does: what is between has lost it.

        Where none answers PostgreSQL may stand still, and will know this one when it goes on.
        """
        answered = threading.Event()

        def watch() -> None:
            while not answered.wait(_ANSWERS_WITHIN_S):
                with suppress(psycopg.Error, SoraError), closing(self._connect()) as another:
                    self._catch_up(another)  # the same is asked: it may take long
                    if not answered.wait(LOOK_EVERY_S):
                        connection.shut()
                    return

        threading.Thread(target=watch, name="sora-ledger-watch", daemon=True).start()
        try:
            yield
        finally:
            answered.set()

    def _hear_of_a_new_one(self, connection: Connection) -> None:
        """Pass on what is told, until it is of a request that was not heard of before, or it is time to look around."""
        until, is_new = time.monotonic() + _LOOK_EVERY_S, False
        while not (is_new or self._ended.is_set()) and (left := until - time.monotonic()) > 0:
            for notice in connection.notifies(timeout=left, stop_after=1):
                if notice.channel == BETWEEN_SERVERS:
                    self._pass_on(notice.payload)
                    continue
                self._tell(notice.payload)
                is_new = is_new or (notice.payload.startswith(IDS) and notice.payload not in self._heard_of)
                self._heard_of[notice.payload] = None
        while len(self._heard_of) > _MOST_HEARD_OF:
            del self._heard_of[next(iter(self._heard_of))]

    def _catch_up(self, connection: Connection) -> None:
        """Hear of what was begun while nobody listened; that a known request is missing is not forgotten by it."""
        with suppress(psycopg.errors.UndefinedTable, psycopg.errors.LockNotAvailable):  # it is being made, or mended
            newest = connection.execute(_NEWEST, [self.heard, self.heard]).fetchone()
            self.heard = self.heard if newest is None else str(newest[0])

    def _pass_on(self, message: str) -> None:
        if self._on_message is not None:
            self._in_loop(self._on_message, message)

    def _tell(self, request_id: str) -> None:
        if request_id in self._listeners:
            self._in_loop(self._let_hear, request_id)

    def _in_loop(self, call: Callable[..., None], *arguments: str) -> None:
        """Have something called by the event loop that waits for it, if there is one."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(call, *arguments)

    def _let_all_hear(self) -> None:
        for request_id in self._listeners:
            self._let_hear(request_id)

    def _let_hear(self, request_id: str) -> None:
        for listener in self._listeners.get(request_id, ()):
            listener.changed.set()
