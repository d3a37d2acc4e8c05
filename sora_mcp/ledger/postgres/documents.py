"""The documents that servers share (`sora_mcp.config.documents`), as rows beside the ledger.

A command reads and changes them on a connection of its own. A server watches them: a thread reads them every second,
and at each notification of a change, so that no request waits for the database.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg

from sora_mcp.config.documents import InvalidDocument, parse, serialize
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.postgres import migrations
from sora_mcp.ledger.postgres.connection import CLOCK, Connection
from sora_mcp.ledger.postgres.connections import Connections
from sora_mcp.ledger.postgres.errors import Unavailable, problem_from
from sora_mcp.ledger.postgres.presence import LIVING_SENDERS
from sora_mcp.ledger.sql.transactions import OlderRelease

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 1.0
CURRENT_TTL_S = 3.0
"""Seconds for which documents that were read count as current."""
CACHE_TTL_S = 60.0
"""Seconds for which they still count if the database cannot be reached: without them, nothing is submitted or shown."""
FIRST_READ_TIMEOUT_S = 5.0
"""Seconds that a starting server waits for the first read."""
_HANG_TIMEOUT_S = 3.0
_RETRY_DELAY_S = 0.5
_CHANNEL = "sora_documents"
_DIGEST = "encode(sha256(convert_to(content, 'UTF8')), 'hex')"
_QUERY = (
    f"SELECT {CLOCK}, name, {_DIGEST},"  # noqa: S608 - our own text
    f" CASE WHEN {_DIGEST} = ANY(%s) THEN NULL ELSE content END FROM (SELECT) one LEFT JOIN documents ON true"
)


class PostgresDocuments:
    """The documents in the database at `url`, read again at each use."""

    def __init__(self, url: str) -> None:
        self._connections = Connections(url, _prepare)

    def named(self, name: str) -> PostgresDocument:
        return PostgresDocument(self, name)

    def now(self) -> float:
        with self.connect() as connection:
            return float(connection.run(f"SELECT {CLOCK}")[0][0])

    def close(self) -> None:
        """Do nothing: no connection stays open."""

    def texts(self, known: Mapping[str, Text] = MappingProxyType({})) -> Mapping[str, Text]:
        """Return the texts of all documents by their names; `known`: those that need not be fetched again."""
        with self.connect() as connection:
            return read_texts(connection, known)[1]

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Connect for the duration of the block. Raises FileProblem if that fails, or the connection is lost."""
        try:
            with closing(self._connections.connect()) as connection:
                _prepare(connection)
                yield connection
        except psycopg.Error as error:
            raise problem_from(error) from None


class Text(NamedTuple):
    """A document as it is in the database."""

    digest: str
    content: str


def read_texts(connection: Connection, known: Mapping[str, Text]) -> tuple[float, Mapping[str, Text]]:
    """Return the database's time, and the texts of all documents."""
    rows = connection.execute(_QUERY.encode(), [[each.digest for each in known.values()]]).fetchall()
    texts = {text.digest: text for text in known.values()}
    current = {
        name: texts[digest] if content is None else Text(digest, content)
        for _, name, digest, content in rows
        if name is not None
    }
    return float(rows[0][0]), current


class PostgresDocument:
    """One of these documents."""

    def __init__(self, documents: PostgresDocuments, name: str) -> None:
        self._documents = documents
        self._name = name

    def stamp(self) -> str | None:
        text = self._documents.texts().get(self._name)
        return None if text is None else text.digest

    def check_current(self) -> None:
        """Do nothing: each read queries the database."""

    def read(self) -> dict[str, Any]:
        text = self._documents.texts().get(self._name)
        return {} if text is None else self._parse(text.content)

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        is_written = False
        try:
            with self._documents.connect() as connection, connection.transaction():
                document = self._parse(self._lock_content(connection))
                yield document
                values = [serialize(document), self._name]
                connection.execute("UPDATE documents SET content = %s WHERE name = %s", values)
                connection.execute("SELECT pg_notify(%s, %s)", [_CHANNEL, self._name])
                is_written = True
        except FileProblem as error:
            error.advice = (_MAY_BE_CHANGED if is_written else _NOT_CHANGED, *error.advice)
            raise

    def _lock_content(self, connection: Connection) -> str:
        """Return the document's text, locked until the transaction ends."""
        connection.execute("SET LOCAL lock_timeout = '10s'")
        connection.execute("INSERT INTO documents VALUES (%s, %s) ON CONFLICT DO NOTHING", [self._name, serialize({})])
        row = connection.execute("SELECT content FROM documents WHERE name = %s FOR UPDATE", [self._name]).fetchone()
        assert row is not None
        return str(row[0])

    def problem(self, reason: str, advice: str = "") -> FileProblem:
        delete = f"DELETE FROM documents WHERE name = '{self._name}'"  # noqa: S608 - to be read by a person
        remedy = advice or f"Repair it, or delete it there ({delete}) to start with an empty one."
        return FileProblem(f"The document {self._name} in the ledger's database {reason}.", Do(remedy))

    def _parse(self, content: str) -> dict[str, Any]:
        try:
            return parse(content)
        except InvalidDocument as error:
            raise self.problem(str(error)) from None


_NOT_CHANGED = Do("Nothing was changed.")
_MAY_BE_CHANGED = Do("The change may or may not have been made: check before you make it again.")


class WatchedDocuments(PostgresDocuments):
    """The same for a running server, read from memory.

    What was read counts for `cache_ttl_s` seconds if the database cannot be reached any more; `read` and `stamp` raise
    FileProblem after that.
    """

    def __init__(self, url: str, *, cache_ttl_s: float = CACHE_TTL_S) -> None:
        super().__init__(url)
        self._cache_ttl_s = cache_ttl_s
        self._texts: Mapping[str, Text] = {}
        self._read_at = -math.inf
        self._offset = time.time() - time.monotonic()
        self._error: FileProblem = Unavailable("it was not reached yet")
        self._is_away = False
        self._connection: Connection | None = None
        self._connection_lock = threading.Lock()
        self._queried_at: float | None = None
        self._has_read = threading.Event()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sora-documents", daemon=True)
        self._thread.start()
        self._has_read.wait(FIRST_READ_TIMEOUT_S)

    def named(self, name: str) -> WatchedDocument:
        return WatchedDocument(self, name)

    def now(self) -> float:
        return time.monotonic() + self._offset

    def close(self) -> None:
        self._is_closing.set()
        self._abort()
        self._thread.join(_RETRY_DELAY_S)

    def texts(self, known: Mapping[str, Text] = MappingProxyType({})) -> Mapping[str, Text]:  # noqa: ARG002 - none is fetched
        self._check(self._cache_ttl_s)
        return self._texts

    def check_current(self) -> None:
        """Raise FileProblem if the database was not read within the last CURRENT_TTL_S."""
        self._check(CURRENT_TTL_S)

    def _check(self, seconds: float) -> None:
        now, queried_at = time.monotonic(), self._queried_at
        if queried_at is not None and now - queried_at > _HANG_TIMEOUT_S:
            self._abort()
        if now - self._read_at > seconds:
            raise self._error.with_traceback(None)

    def _abort(self) -> None:
        with self._connection_lock, suppress(psycopg.Error):
            if self._connection is not None:
                self._connection.abort()

    def _set_connection(self, connection: Connection | None) -> None:
        with self._connection_lock:
            self._connection, self._queried_at = connection, None

    def _run(self) -> None:
        while not self._is_closing.is_set():
            try:
                with self.connect() as connection:
                    self._set_connection(connection)
                    try:
                        self._watch(connection)
                    finally:
                        self._set_connection(None)
            except FileProblem as error:
                if not (self._is_away or self._is_closing.is_set()):
                    logger.warning("the documents that servers share cannot be read now: %s", error.message)
                self._is_away, self._error = True, error
            except Exception:
                logger.exception("watching the shared documents failed unexpectedly")  # and it is begun again
            finally:
                self._has_read.set()
            self._is_closing.wait(_RETRY_DELAY_S)

    def _watch(self, connection: Connection) -> None:
        connection.execute(f"LISTEN {_CHANNEL}".encode())
        while not self._is_closing.is_set():
            self._queried_at = queried_at = time.monotonic()
            now, self._texts = read_texts(connection, self._texts)
            self._queried_at, self._read_at, self._offset = None, queried_at, now - time.monotonic()
            self._is_away, self._error = False, Unavailable("it takes too long to answer")
            self._has_read.set()
            for _ in connection.notifies(timeout=POLL_INTERVAL_S, stop_after=1):
                pass


class WatchedDocument(PostgresDocument):
    """A document that is read from memory."""

    def __init__(self, documents: WatchedDocuments, name: str) -> None:
        super().__init__(documents, name)
        self._watched = documents

    def check_current(self) -> None:
        self._watched.check_current()


def _prepare(connection: Connection) -> None:
    """Create the tables if there are none. A migration of the ledger that has to wait blocks no reader."""
    with suppress(OlderRelease, migrations.NewerRelease):
        migrations.migrate(connection, migrations.STEPS, LIVING_SENDERS)
