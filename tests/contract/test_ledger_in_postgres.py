"""What holds in PostgreSQL however its owner has set it up."""

from __future__ import annotations

import anyio
import pytest
from ledgers import BODY, GUARDED, G
from postgres import Cluster
from postgres_faults import database_of

from sora_mcp.core.cost import Cost
from sora_mcp.ledger import Intent
from sora_mcp.ledger.postgres.engine import PostgresLedger

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_equal_creates_are_one_whatever_isolation_the_database_begins_with(
    cluster: Cluster, isolation: str
) -> None:
    url = cluster.database()
    name = database_of(url)
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
