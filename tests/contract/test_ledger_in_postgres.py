"""What holds in PostgreSQL however its owner has set it up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from ledgers import BODY, GUARDED, G
from postgres import Cluster
from postgres_faults import database_name

from sora_mcp.core.cost import Cost
from sora_mcp.ledger import Account, Intent, Ledger, SpendingPolicy
from sora_mcp.ledger.postgres.engine import PostgresLedger
from sora_mcp.ledger.protocol import MAX_SEARCHED

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_equal_creates_are_one_whatever_isolation_the_database_begins_with(
    cluster: Cluster, isolation: str
) -> None:
    url = cluster.database()
    name = database_name(url)
    cluster.sql(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    ledgers = [PostgresLedger(url) for _ in range(3)]
    begun: list[bool] = []

    async def begin(ledger: PostgresLedger) -> None:
        intent = Intent(G, "simple_compose", BODY, "same", [], Cost.of(1.25))
        begun.append((await ledger.begin(intent, GUARDED))[1])

    try:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for ledger in ledgers * 4:
                    group.start_soon(begin, ledger)
        assert sum(begun) == 1
    finally:
        for ledger in ledgers:
            ledger.close()


ROWS = 3000
_FILL = f"""
    INSERT INTO videos (request_id, gateway, address, key_fingerprint, owner, task_id, operation, state, body, sources,
        fingerprint, sent_fingerprint, created_at, updated_at)
    SELECT 'req_' || n, 'g', 'g', '', '', 'task_' || n, 'simple_compose', 'succeeded', '{{}}', '[]',
        'asked ' || n, 'sent ' || n, 0, 0 FROM generate_series(1, {ROWS}) AS n;
    INSERT INTO generations (request_id, variant, generation_id, file)
    SELECT 'req_' || n, 1, 'gen_' || n, '/videos/' || n || '.mp4' FROM generate_series(1, {ROWS}) AS n;
    ANALYZE;
"""  # noqa: S608 - our own numbers
_READ = """
    SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname != 'history')::bigint
        + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname != 'history')::bigint
"""
"""Rows of tables, and entries of indexes: a vacuum in between may save a look at the table itself."""
_LIKE = Intent(G, "simple_compose", BODY, "asked 7", [], Cost.of(1.25))
_CAPPED = SpendingPolicy(duplicate_window_s=600, per_day=Cost.of(1e6))

FEW: dict[str, Callable[[Ledger], Awaitable[object]]] = {
    "the guard": lambda ledger: ledger.find_earlier(_LIKE, _CAPPED),
    "the guard, of what is sent as the same": lambda ledger: ledger.find_earlier(
        Intent(G, "simple_compose", BODY, "asked anew", [], Cost.of(1.25), sent_fingerprint="sent 7"), _CAPPED
    ),
    "a new request": lambda ledger: ledger.begin(
        Intent(G, "simple_compose", BODY, "new", [], Cost.of(1.25), sent_fingerprint="sent anew"), _CAPPED
    ),
    "a task": lambda ledger: ledger.find(G, "task_7"),
    "a task that is not there": lambda ledger: ledger.find(G, "task_none"),
    "a video of another": lambda ledger: ledger.is_of_another_owner(Account("g", owner="ann"), "task_7"),
    "a video of nobody": lambda ledger: ledger.is_of_another_owner(G, "task_none"),
    "a variant": lambda ledger: ledger.find_generation(G, "gen_7"),
    "the beginning of an id": lambda ledger: ledger.find_ids_by_prefix(G, "task_7", 5),
    "a file": lambda ledger: ledger.is_file_of_another("req_7", Path("/videos/8.mp4")),
    "a page": lambda ledger: ledger.page(G, limit=10, states=("succeeded", "failed")),
    "what is under way": lambda ledger: ledger.under_way(G, 20),
    "what is not saved": lambda ledger: ledger.unsaved(G, 20),
}


@pytest.mark.parametrize("ask", FEW.values(), ids=FEW)
async def test_what_is_about_a_few_rows_reads_a_few(
    cluster: Cluster, ask: Callable[[Ledger], Awaitable[object]]
) -> None:
    assert 0 < await rows_read(cluster, _FILL, ask) < ROWS / 10


async def rows_read(cluster: Cluster, fill: str, ask: Callable[[Ledger], Awaitable[object]]) -> int:
    """How many rows a call reads of a ledger that `fill` has filled."""
    url = cluster.database()
    name = database_name(url)

    async def read() -> int:
        others = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608 - our own name
        with anyio.fail_after(30):  # what a connection has read is told at its end
            while cluster.sql(others):  # noqa: ASYNC110 - PostgreSQL tells nobody
                await anyio.sleep(0.02)
        return int(cluster.sql(_READ, name)[0][0])

    with closing(PostgresLedger(url)) as ledger:
        await ledger.account("https://gateway.example", "key")
    cluster.sql(fill, name)
    before = await read()
    with closing(PostgresLedger(url)) as ledger:
        await ask(ledger)
    return await read() - before


MINE, THEIRS = 1_000, 20_000
_OLD = f"""
    INSERT INTO videos (request_id, gateway, address, key_fingerprint, owner, task_id, operation, state, body, sources,
        created_at, updated_at)
    SELECT 'req_' || n, 'g@' || owner, 'g', '', owner, 'task_' || n, 'simple_compose',
        CASE WHEN n % 2 = 0 THEN 'succeeded' ELSE 'running' END, '{{}}', '[]', n, n
    FROM (SELECT n, CASE WHEN n <= {MINE} THEN 'ann' ELSE 'o' || n % 5 END AS owner
        FROM generate_series(1, {MINE + THEIRS}) AS n) AS made;
"""  # noqa: S608 - our own numbers
ANN = Account("g", owner="ann")
OLD: dict[str, Callable[[Ledger], Awaitable[object]]] = {
    "a page": lambda ledger: ledger.page(ANN, limit=10),
    "a later page": lambda ledger: ledger.page(ANN, limit=10, before="req_100"),
    "a page of some states": lambda ledger: ledger.page(ANN, limit=10, states=("succeeded", "failed")),
    "a search": lambda ledger: ledger.search(ANN, "snow", limit=10),
    "a search in one state": lambda ledger: ledger.search(ANN, "snow", limit=10, states=("succeeded",)),
    "what is under way": lambda ledger: ledger.under_way(ANN, 20),
    "how long videos took": lambda ledger: ledger.durations(ANN, 20),
    "what was spent": lambda ledger: ledger.usage("ann", ("address", "day"), MINE - 100),
}


@pytest.mark.parametrize("statistics", ["", "ANALYZE;"], ids=["before ANALYZE", "after it"])
@pytest.mark.parametrize("ask", OLD.values(), ids=OLD)
async def test_what_others_have_made_since_is_not_read(
    cluster: Cluster, ask: Callable[[Ledger], Awaitable[object]], statistics: str
) -> None:
    assert await rows_read(cluster, _OLD + statistics, ask) < THEIRS / 10


@pytest.mark.parametrize("begins", ["task_", "req_"])
async def test_of_ids_that_begin_alike_a_bounded_number_is_read(cluster: Cluster, begins: str) -> None:
    bob = Account("g", owner="bob")
    assert await rows_read(cluster, _OLD, lambda ledger: ledger.find_ids_by_prefix(bob, begins, 5)) < 1.1 * MAX_SEARCHED
