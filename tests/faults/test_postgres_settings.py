"""What an administrator has set for the database or its user weakens no guarantee: we override it, or refuse."""

from __future__ import annotations

from contextlib import ExitStack, closing

import anyio
import anyio.lowlevel
import pytest
from bench import Connect
from fault_gateway import FaultGateway
from postgres import Cluster
from postgres_faults import database_name

from sora_mcp.ledger.postgres.connections import Connections

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.mark.parametrize("weaker", ["off", "local", "remote_write"])
async def test_a_commit_is_on_the_disk_whatever_the_database_is_set_to(cluster: Cluster, weaker: str) -> None:
    url = cluster.database()
    cluster.sql(f"ALTER DATABASE {database_name(url)} SET synchronous_commit = {weaker}")
    with closing(Connections(url, lambda _: None).connect()) as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


async def test_a_commit_is_on_the_disk_though_that_is_turned_off_under_open_connections(cluster: Cluster) -> None:
    with closing(Connections(cluster.database(), lambda _: None).connect()) as connection, ExitStack() as afterwards:
        afterwards.callback(cluster.sql, "SELECT pg_reload_conf()")
        for setting, value in (("synchronous_commit", "off"), ("work_mem", "'1MB'")):
            cluster.sql(f"ALTER SYSTEM SET {setting} = {value}")
            afterwards.callback(cluster.sql, f"ALTER SYSTEM RESET {setting}")
        cluster.sql("SELECT pg_reload_conf()")
        with anyio.fail_after(10):
            while connection.execute("SHOW work_mem").fetchone() != ("1MB",):
                await anyio.lowlevel.checkpoint()
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


async def test_nothing_is_paid_for_where_triggers_that_count_do_not_run(
    cluster: Cluster, connect: Connect, gateway: FaultGateway
) -> None:
    url = cluster.database()
    cluster.sql(f"ALTER DATABASE {database_name(url)} SET session_replication_role = replica")
    async with connect(ledger_url=url) as client:
        refused = (await client.call_tool("create_video", {"prompt": "fly man"})).structured_content
    assert refused["outcome"] == "not_submitted", refused
    assert "session_replication_role" in refused["error"]["message"]
    assert gateway.creates() == []


async def test_a_connection_that_holds_a_servers_lock_is_not_ended_because_it_idles(cluster: Cluster) -> None:
    url = cluster.database()
    cluster.sql(f"ALTER DATABASE {database_name(url)} SET idle_session_timeout = '2s'")
    with closing(Connections(url, lambda _: None).connect()) as connection:
        assert connection.execute("SHOW idle_session_timeout").fetchone() == ("0",)
