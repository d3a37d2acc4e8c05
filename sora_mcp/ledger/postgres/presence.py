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
from collections.abc import Callable
from contextlib import closing, suppress

import psycopg

from sora_mcp.core.errors import SoraError
from sora_mcp.ledger.postgres.connection import BETWEEN_SERVERS, CHANNEL, Connection, shut, within

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

IDS = "req_"
"""With what the ids of requests begin."""
WITHIN_S = 5.0
"""Seconds in which the connection is to be there."""
_NEWEST = (
    "SELECT request_id FROM videos WHERE %s = '' OR EXISTS (SELECT 1 FROM videos WHERE request_id = %s)"
    " ORDER BY number DESC LIMIT 1"
)
_AGAIN_AFTER_S = (0.5, 1, 2, 4)
"""Seconds between attempts to connect; the last one is repeated."""
_LOOK_EVERY_S = 10.0
_END_WITHIN_S = 0.3


class Presence:
    """This server's place among those that share the ledger; its thread starts when it is first needed.

    `look_after`: called in that thread, again and again, while the database is there.
    """

    def __init__(self, connect: Callable[[], Connection], look_after: Callable[[], None]) -> None:
        self._connect = connect
        self._look_after = look_after
        self.heard = ""
        """The last request that was heard of."""
        self._writer: str | None = None
        self._connection: Connection | None = None
        self._there = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: Callable[[str], None] | None = None

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

    def hear(self, listener: Callable[[str], None]) -> None:
        """Tell `listener` what servers tell each other, in this event loop."""
        self._loop, self._listener = asyncio.get_running_loop(), listener
        self.start()

    async def wait_for(self, request_id: str, seconds: float) -> None:
        """Wait until an entry changes, for so many seconds at most."""
        self.start()
        self._loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        waiting = self._waiting[request_id]
        waiting.add(changed)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), seconds)
        finally:
            waiting.discard(changed)
            if not waiting:
                self._waiting.pop(request_id, None)

    def end(self) -> None:
        """Give the lock back."""
        self._ended.set()
        self._shut()
        if self._thread is not None:
            self._thread.join(_END_WITHIN_S)

    def _shut(self) -> None:
        if (connection := self._connection) is not None:
            shut(connection)

    def _run(self) -> None:
        failures = 0
        while not self._ended.is_set():
            try:
                with closing(self._connect()) as self._connection:
                    self._listen(self._connection)
            except (psycopg.Error, SoraError):
                if self._ended.is_set():
                    return
                logger.info("the connection that listens to the ledger was lost, or cannot be made")
            failures = 0 if self._there.is_set() else failures + 1
            self._there.clear()
            self._ended.wait(_AGAIN_AFTER_S[min(failures, len(_AGAIN_AFTER_S) - 1)])

    def _listen(self, connection: Connection) -> None:
        writer = secrets.token_hex(8)
        with within(WITHIN_S, connection):
            connection.execute("SELECT pg_advisory_lock(('x' || %s)::bit(64)::bigint)", [writer])
            connection.execute(f"LISTEN {CHANNEL}; LISTEN {BETWEEN_SERVERS}".encode())
        self._writer = writer
        self._there.set()
        while not self._ended.is_set():
            self._look_after()
            self._catch_up(connection)
            for heard in connection.notifies(timeout=_LOOK_EVERY_S):
                if self._ended.is_set():
                    return
                if heard.channel == BETWEEN_SERVERS:
                    self._pass_on(heard.payload)
                    continue
                if heard.payload.startswith(IDS):
                    self.heard = heard.payload
                self._tell(heard.payload)

    def _catch_up(self, connection: Connection) -> None:
        """Hear of what was begun while nobody listened; that a known request is missing is not forgotten by it."""
        with suppress(psycopg.errors.UndefinedTable):  # it is being made
            newest = connection.execute(_NEWEST, [self.heard, self.heard]).fetchone()
            self.heard = self.heard if newest is None else str(newest[0])

    def _pass_on(self, message: str) -> None:
        if self._loop is not None and self._listener is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._listener, message)

    def _tell(self, request_id: str) -> None:
        if self._loop is not None and request_id in self._waiting:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._set, request_id)

    def _set(self, request_id: str) -> None:
        for changed in self._waiting.get(request_id, ()):
            changed.set()
