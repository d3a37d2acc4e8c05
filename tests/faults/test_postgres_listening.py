"""The connection on which a server hears of changes, and by whose lock others see it live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import anyio
import psycopg
import pytest
from ledgers import begin, row
from postgres import Cluster, running_cluster
from postgres_faults import database_name, proxy

from sora_mcp.ledger import Account
from sora_mcp.ledger.postgres.connection import CHANGES_CHANNEL
from sora_mcp.ledger.postgres.engine import PostgresLedger
from sora_mcp.ledger.sql.transactions import LedgerBusy

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HEARD_WITHIN_S = 15
LONGER_THAN_A_LOOK_S = 12
LONGER_THAN_A_STATEMENT_S = 17


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One that may stand still."""
    with running_cluster() as started:
        yield started


async def test_who_waits_hears_of_changes_though_the_way_to_postgres_swallows_everything(cluster: Cluster) -> None:
    url = cluster.database()
    with proxy(cluster) as way, closing(PostgresLedger(way.address(url))) as one, closing(PostgresLedger(url)) as other:
        request_id = await begin(one)
        with one.listen(request_id) as listener:
            await listener.wait(1)
            way.swallow()
            with anyio.fail_after(HEARD_WITHIN_S):
                while not await listener.wait(1):
                    pass
            await other.record_accepted(request_id, "task_1")
            with anyio.fail_after(2):
                assert await listener.wait(2)


async def test_a_server_that_sends_is_known_to_live_while_somebody_holds_a_table(cluster: Cluster) -> None:
    url = cluster.database()
    with closing(PostgresLedger(url)) as one, closing(PostgresLedger(url)) as other:
        request_id = await begin(one)
        with closing(psycopg.connect(url)) as administrator:
            administrator.execute("LOCK TABLE videos IN ACCESS EXCLUSIVE MODE")  # as VACUUM FULL does
            cluster.sql(f"NOTIFY {CHANGES_CHANNEL}, 'req_new'", database_name(url))  # a server looks around then
            await anyio.sleep(LONGER_THAN_A_STATEMENT_S)
        assert (await row(other, request_id)).state == "sending"


async def test_who_reads_a_table_that_is_held_is_told_so(cluster: Cluster) -> None:
    url = cluster.database()
    with closing(PostgresLedger(url)) as ledger:
        request_id = await begin(ledger)
        with closing(psycopg.connect(url)) as administrator:
            administrator.execute("LOCK TABLE videos IN ACCESS EXCLUSIVE MODE")
            with anyio.fail_after(15), pytest.raises(LedgerBusy, match="another process has locked it"):
                await row(ledger, request_id)
        assert (await row(ledger, request_id)).state == "sending"


async def test_a_server_that_sends_is_known_to_live_after_postgres_stood_still(cluster: Cluster) -> None:
    with closing(PostgresLedger(cluster.database())) as ledger:
        request_id = await begin(ledger)
        with cluster.frozen():
            await anyio.sleep(LONGER_THAN_A_LOOK_S)
        assert (await row(ledger, request_id)).state == "sending"
        await begin(ledger, Account("other"))
        assert (await row(ledger, request_id)).state == "sending"
