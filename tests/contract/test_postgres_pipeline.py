"""Statements are sent on without waiting for their answers: what then fails, or stops, in the middle of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TypeVar

import anyio
import psycopg
import pytest
from ledgers import G, begin
from postgres import Cluster

from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.postgres.connection import Connection
from sora_mcp.ledger.postgres.connections import Connections, Job
from sora_mcp.ledger.postgres.engine import PostgresLedger
from sora_mcp.ledger.postgres.errors import is_connection_lost
from sora_mcp.ledger.postgres.migrations import MIGRATION_LOCK
from sora_mcp.ledger.postgres.presence import Presence
from sora_mcp.ledger.sql.database import Database

T = TypeVar("T")
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('{name}', 0))"


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.database()


@pytest.fixture
def connections(url: str) -> Iterator[Connections]:
    def prepare(connection: Connection) -> None:
        connection.run("CREATE TABLE written (what TEXT)")

    with closing(Connections(url, prepare)) as way:
        yield way


def write(connections: Connections, work: Callable[[Database], T]) -> T:
    return Job(connections, work, True, 0.1, time.monotonic() + 5, lambda _: None).run()


def written(url: str) -> list[object]:
    with psycopg.connect(url) as database:
        return [what for (what,) in database.execute("SELECT what FROM written")]


@contextmanager
def held(url: str) -> Iterator[None]:
    """Another process holds what whoever writes waits for."""
    with psycopg.connect(url) as other:
        other.execute(_LOCK.format(name="it").encode())
        yield


def test_a_transaction_that_failed_leaves_nothing_behind_on_its_connection(connections: Connections, url: str) -> None:
    def work(db: Database) -> None:
        db.lock("it")
        db.execute("INSERT INTO written VALUES (?) RETURNING what", ["one"]).fetchone()

    for _ in range(8):  # psycopg prepares a statement that it has seen five times
        with held(url), pytest.raises(FileProblem, match="another process has locked it"):
            write(connections, work)
        write(connections, work)
    assert written(url) == ["one"] * 8


@pytest.mark.parametrize("is_read", [False, True])
def test_a_failed_transaction_is_never_taken_for_a_committed_one(
    connections: Connections, url: str, *, is_read: bool
) -> None:
    def work(db: Database) -> str:
        db.execute("INSERT INTO written VALUES (?)", ["one"])
        answer = db.execute("SELECT 1 / 0")
        if is_read:
            with suppress(psycopg.Error):
                answer.fetchone()
        return "done"

    with pytest.raises(FileProblem, match="rejects what"):
        write(connections, work)
    assert written(url) == []


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_server_that_is_stopped_between_two_statements_keeps_nobody_waiting(cluster: Cluster, url: str) -> None:
    """One that has not asked for their answers: PostgreSQL does not see it idle then."""
    lock, shared = _LOCK.format(name=f"gateway {G.address}"), f"SELECT pg_advisory_xact_lock_shared({MIGRATION_LOCK})"
    stopped_there = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%gateway %' AND wait_event = 'ClientRead'"
    with closing(PostgresLedger(url)) as ledger, psycopg.connect(url, autocommit=True) as stopped, anyio.fail_after(60):
        await begin(ledger)
        pipeline = stopped.pipeline()
        with suppress(psycopg.OperationalError), pipeline:
            for statement in ("BEGIN", shared, lock):
                stopped.execute(statement.encode())
            while not cluster.sql(stopped_there):  # noqa: ASYNC110 - PostgreSQL tells nobody
                await anyio.sleep(0.05)
            for _ in range(3):
                with suppress(FileProblem):
                    await begin(ledger)
                    break
            else:
                stopped.close()
                pytest.fail("it holds up everybody")


def test_listening_goes_on_whatever_fails(url: str) -> None:
    again = threading.Event()
    failures = iter([ValueError()])

    def look_after() -> None:
        for failure in failures:
            raise failure
        again.set()

    presence = Presence(Connections(url, lambda _: None).connect, look_after)
    presence.start()
    try:
        assert again.wait(10)
    finally:
        presence.close()


def test_whoever_ended_a_connection_may_have_committed() -> None:
    class Diagnostic:
        severity_nonlocalized = "PANIC"

    class Panic(psycopg.OperationalError):
        sqlstate = "58030"
        diag = Diagnostic()  # type: ignore[assignment]

    assert is_connection_lost(Panic())
    assert not is_connection_lost(psycopg.errors.DiskFull())
