"""Who is at work, and who is told: each server holds one connection open, with a lock by which others see it live.

The lock is PostgreSQL's own (a session's advisory lock): it is free the moment the server is killed, and held for as
long as it lives, even while it is stopped. The same connection listens for the entries that other servers change.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import anyio
import psycopg

from sora_mcp.core.errors import SoraError
from sora_mcp.ledger.postgres.connection import CHANNEL, Connection, shut

logger = logging.getLogger(__name__)

KEY_OF_WRITER = "('x' || writer)::bit(64)::bigint"
IS_HELD = (
    "EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND ((classid::bigint << 32) | objid::bigint) = {key})"
)
"""Whether somebody holds the lock of a key: pg_locks shows its halves."""
ALIVE = f"CASE WHEN writer ~ '^[0-9a-f]{{16}}$' THEN {IS_HELD.format(key=KEY_OF_WRITER)} ELSE FALSE END"  # our own text
"""Whether the writer of a row lives."""
LIVING_SENDERS = f"SELECT request_id FROM videos WHERE state = 'sending' AND {ALIVE}"  # noqa: S608 - our own text

LOOK_EVERY_S = 1.0
"""Seconds after which a listener goes on at the earliest that heard nothing."""
WITHIN_S = 5.0
"""Seconds in which the connection is to be there."""
_AGAIN_AFTER_S = 0.5
_LOOK_EVERY_S = 30.0


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
    """This server's place among those that share the ledger; its thread starts when it is first needed."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._writer: str | None = None
        self._connection: Connection | None = None
        self._there = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None

    def writer(self) -> str | None:
        """The id that stands for this server now; None where PostgreSQL cannot be reached within WITHIN_S."""
        self.start()
        return self._writer if self._there.wait(WITHIN_S) else None

    def lost(self, writer: str) -> None:
        """The lock of this id is not held any more: wait for another."""
        if self._writer == writer and self._connection is not None:
            self._there.clear()
            shut(self._connection)

    def start(self) -> None:
        """Begin to listen."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sora-ledger-presence", daemon=True)
                self._thread.start()

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

    def end(self, notify: Callable[[str], None]) -> None:
        """Give the lock back. `notify` sends a message on the channel, which ends the listening."""
        self._ended.set()
        if self._thread is None:
            return
        with suppress(SoraError):
            notify(self._writer or "")
        self._thread.join(_AGAIN_AFTER_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with self._connect() as self._connection:
                    self._listen(self._connection)
            except (psycopg.Error, SoraError):
                logger.info("the connection that listens to the ledger was lost, or cannot be made")
            finally:
                self._there.clear()
            self._ended.wait(_AGAIN_AFTER_S)

    def _listen(self, connection: Connection) -> None:
        writer = secrets.token_hex(8)
        connection.execute("SELECT pg_advisory_lock(('x' || %s)::bit(64)::bigint)", [writer])
        connection.execute(f"LISTEN {CHANNEL}".encode())
        self._writer = writer
        self._there.set()
        while not self._ended.is_set():
            for heard in connection.notifies(timeout=_LOOK_EVERY_S):
                if self._ended.is_set():
                    return
                self._tell(heard.payload)
            connection.execute("SELECT 1")  # so that a connection that was lost is seen

    def _tell(self, request_id: str) -> None:
        if self._loop is not None and request_id in self._listeners:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._let_hear, request_id)

    def _let_hear(self, request_id: str) -> None:
        for listener in self._listeners.get(request_id, ()):
            listener.changed.set()
