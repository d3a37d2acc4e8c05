"""Servers that share a ledger in PostgreSQL: one is stopped or killed, at the worst moment, and the others go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from bench import ACCEPTED_NEXT, KEY, RUNNING, Run, environment
from fault_gateway import CREATE, FaultGateway, Hold
from ledgers import Store
from postgres import Cluster
from postgres_faults import database_name, proxy
from tls_front import Authority, tls_front
from wire import Host, host

from sora_mcp.core.tasks import Task

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FREED_WITHIN_S = 20.0
"""Seconds in which a create that waits for a stopped server has to be through; five, and what a busy machine adds."""
LONGER_THAN_AN_ANSWER_COUNTS_S = 2.5
FOLLOWED = 60
END_LOCK_HOLDERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
    " AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND pid IN (SELECT pid FROM pg_stat_activity WHERE state = 'idle')"
)
"""Ends the connections that show which servers live."""


@pytest.fixture
def store(cluster: Cluster, tmp_path: Path) -> Store:
    return cluster.store(tmp_path)


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, RUNNING)
    return gateway


@asynccontextmanager
async def two_servers(
    folder: Path, gateway: FaultGateway, store: Store, **settings: str
) -> AsyncIterator[tuple[Host, Host]]:
    """Each has a home of its own: they share nothing but the ledger."""
    async with AsyncExitStack() as stack:
        servers = []
        for name in ("one", "other"):
            server = await stack.enter_async_context(
                host(environment(folder / name, gateway, **store.environ, **settings))
            )
            await server.start()
            servers.append(server)
        yield servers[0], servers[1]


async def create(server: Host, prompt: str = "fly man") -> dict[str, Any]:
    return await server.use("create_video", prompt=prompt)


async def until(store: Store, sql: str) -> None:
    """Wait until a query gives true."""
    with anyio.fail_after(60):
        while not (await anyio.to_thread.run_sync(store.rows, f"SELECT {sql}"))[0][0]:  # noqa: ASYNC110 - only a look can tell
            await anyio.sleep(0.02)


async def test_a_server_that_is_stopped_in_a_transaction_holds_the_others_up_for_seconds(
    tmp_path: Path, gateway: FaultGateway, store: Store
) -> None:
    """It is stopped while it waits for the lock of all creates, which it then gets, and keeps until it is cut off.

    However many creates it was asked for: one of its transactions is in the way, not each.
    """
    async with two_servers(tmp_path, gateway, store) as (one, other):
        await create(one, "kite")
        await create(other, "another")
        key = f"hashtextextended('gateway {gateway.address}', 0)"
        with psycopg.connect(store.values["ledger_url"], autocommit=True) as holder:
            holder.execute(f"SELECT pg_advisory_lock({key})".encode())
            asked = await one.call("create_video", {"prompt": "fly man"})
            for number in range(4):
                await one.call("create_video", {"prompt": f"beside it {number}"})
            await until(store, "EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)")
            os.kill(one.pid, signal.SIGSTOP)
        await until(store, "EXISTS (SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction')")
        with anyio.fail_after(FREED_WITHIN_S):
            first = await create(other)
        os.kill(one.pid, signal.SIGCONT)
        with anyio.fail_after(60):
            again = await one.answer(asked)
    assert first["outcome"] == "accepted"
    assert again.get("task_id") in {first["task_id"], None}
    assert again["outcome"] in {"accepted", "not_submitted"}
    assert len([each for each in gateway.creates() if b"fly man" in each.body]) == 1


async def test_what_a_stopped_server_is_sending_is_waited_for_and_sent_by_nobody_else(
    tmp_path: Path, gateway: FaultGateway, store: Store
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    async with two_servers(tmp_path, gateway, store) as (one, other):
        asked = await one.call("create_video", {"prompt": "fly man"})
        await hold.reached.wait()
        os.kill(one.pid, signal.SIGSTOP)
        same = await other.call("create_video", {"prompt": "fly man"})
        [video] = (await other.use("list_videos"))["videos"]
        assert video["state"] == "sending"
        hold.release.set()
        await until(store, "count(*) = 1 AND min(state) = 'sending' FROM videos")
        assert same not in other.answers
        os.kill(one.pid, signal.SIGCONT)
        with anyio.fail_after(60):
            first, second = await one.answer(asked), await other.answer(same)
    assert first["outcome"] == second["outcome"] == "accepted"
    assert first["task_id"] == second["task_id"]
    assert second["duplicate"]
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("delays", [b"", b"request_id = $1 AND state = 'sending'"], ids=["record", "last_look"])
async def test_what_was_settled_before_its_server_knew_of_its_record_is_not_sent(
    tmp_path: Path, gateway: FaultGateway, cluster: Cluster, run: Run, delays: bytes
) -> None:
    """The ledger's answer is held up: that it is recorded, or that it may still be sent."""
    url = cluster.database()
    with proxy(cluster) as way, anyio.fail_after(60):
        way.delays = delays
        slow = environment(tmp_path / "slow", gateway, LEDGER_URL=way.address(url))
        environ = environment(tmp_path / "other", gateway, LEDGER_URL=url)
        async with host(slow) as one, host(environ) as other:
            await one.start()
            await other.start()
            await create(one, "kite")
            await create(other, "another")
            answered = way.delay = threading.Event()
            asked = await one.call("create_video", {"prompt": "fly man"})
            assert await anyio.to_thread.run_sync(way.delayed.wait, 20)
            cluster.sql(END_LOCK_HOLDERS, database_name(url))
            unknown = await create(other)
            assert unknown["outcome"] == "unknown", unknown
            settled = run("settle", unknown["request_id"], "--none", **_settings(environ))
            assert settled.returncode == 0, settled.stderr
            assert (await create(other))["outcome"] == "accepted"
            await anyio.sleep(LONGER_THAN_AN_ANSWER_COUNTS_S)
            answered.set()
            refused = await one.answer(asked)
    assert refused["outcome"] == "not_submitted", refused
    assert len([each for each in gateway.creates() if b"fly man" in each.body]) == 1


async def test_what_was_settled_while_the_gateway_was_being_connected_to_is_not_sent(
    tmp_path: Path, gateway: FaultGateway, cluster: Cluster, run: Run
) -> None:
    url, authority, hold = cluster.database(), Authority(), Hold()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    async with tls_front(gateway.address, authority.server(), hold=hold) as address:
        environs = [
            environment(tmp_path / name, gateway, LEDGER_URL=url, BASE_URL=address, CONNECT_TIMEOUT="60")
            | {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
            for name in ("one", "other")
        ]
        async with host(environs[0]) as one, host(environs[1]) as other:
            await one.start()
            await other.start()
            asked = await one.call("create_video", {"prompt": "fly man"})
            with anyio.fail_after(20):
                await hold.reached.wait()
            cluster.sql(END_LOCK_HOLDERS, database_name(url))
            unknown = await create(other)
            settled = await anyio.to_thread.run_sync(
                lambda: run("settle", unknown["request_id"], "--none", **_settings(environs[1]))
            )
            assert settled.returncode == 0, settled.stderr
            assert (await create(other))["outcome"] == "accepted"
            hold.release.set()
            refused = await one.answer(asked)
    assert refused["outcome"] == "not_submitted", refused
    assert len(gateway.creates()) == 1


def _settings(environ: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("SORA_"): value for name, value in environ.items() if name.startswith("SORA_")}


async def test_what_a_killed_server_was_sending_is_unknown_at_once_to_those_who_wait_for_it(
    tmp_path: Path, gateway: FaultGateway, store: Store
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    async with two_servers(tmp_path, gateway, store) as (one, other):
        await one.call("create_video", {"prompt": "fly man"})
        await hold.reached.wait()
        same = await other.call("create_video", {"prompt": "fly man"})
        [video] = (await other.use("list_videos"))["videos"]
        await one.kill()
        with anyio.fail_after(FREED_WITHIN_S):
            told = await other.answer(same)
        hold.release.set()
        assert (told["outcome"], told["request_id"]) == ("unknown", video["request_id"])
        assert (await create(other))["outcome"] == "unknown"
    assert len(gateway.creates()) == 1


async def test_servers_share_what_is_to_be_asked_about(tmp_path: Path, gateway: FaultGateway, store: Store) -> None:
    """Both look after every video that is under way. Each of these is due once a minute, and is asked about once."""
    ledger = store.open(time.time)
    account = await ledger.account(gateway.address, KEY)
    for number in range(FOLLOWED):
        await ledger.adopt(account, f"task_{number}", Task("running", created_at=int(time.time()) - 900))
    ledger.close()
    store.query("UPDATE videos SET looked_at = NULL, not_before = NULL")
    async with two_servers(tmp_path, gateway, store, SAVE_FINISHED="true"):
        with anyio.fail_after(60):
            while len({each.path for each in gateway.requests("GET")}) < FOLLOWED:  # noqa: ASYNC110 - servers tell nobody
                await anyio.sleep(0.05)
    asked = Counter(each.path for each in gateway.requests("GET"))
    assert set(asked.values()) == {1}
