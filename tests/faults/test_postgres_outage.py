"""PostgreSQL goes away, or stands still, under servers that run: nothing is paid twice, and no answer is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import get_args

import anyio
import pytest
from bench import ACCEPTED_NEXT, RUNNING, environment
from fault_gateway import CREATE, FaultGateway, Hold, fault_gateway
from ledgers import G, begin
from postgres import Cluster, running_cluster
from postgres_faults import Loss, database_name, proxy, sessions
from wire import Host, host

from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger import Intent
from sora_mcp.ledger.postgres.engine import PostgresLedger

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TOLD_WITHIN_S = 35
BACK_WITHIN_S = 20
WAIT_ENDS_WITHIN_S = 3 + 6
"""What is left of a wait, and what a list may take beyond it."""
MOST_THREADS = 50
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(5.5) WHERE NEW.body LIKE '%slow%'; RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON videos FOR EACH ROW EXECUTE FUNCTION slow()
"""
"""Some requests take longer than half of what a paid call waits where nobody before it gets on."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One that may be stopped."""
    with running_cluster("max_connections=40") as started:
        yield started


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    return gateway


def on_postgres(folder: Path, gateway: FaultGateway, url: str) -> dict[str, str]:
    return environment(folder, gateway, LEDGER_URL=url)


async def assert_refused(server: Host, prompt: str, *words: str) -> None:
    with anyio.fail_after(TOLD_WITHIN_S):
        refused = await server.use("create_video", prompt=prompt)
    assert refused["outcome"] == "not_submitted", refused
    message = refused["error"]["message"]
    assert "The ledger in PostgreSQL cannot be used" in message
    assert not [word for word in ("psycopg", "Traceback", "SELECT", "127.0.0.1") if word in str(refused)]
    assert [word for word in words if word in message] or not words, message


async def test_postgres_is_away_in_the_middle_of_creates(
    cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold), ACCEPTED_NEXT)
    url = cluster.database()
    environ = on_postgres(tmp_path, gateway, url)
    with anyio.fail_after(120):
        async with host(environ) as server:
            await server.start()
            sending = await server.call("create_video", {"prompt": "fly man"})
            await hold.reached.wait()
            cluster.stop()
            hold.release.set()
            answer = await server.answer(sending)
            assert "task_1" in str(answer)
            async with anyio.create_task_group() as calls:
                for prompt in ("fly man", "another", "a third"):
                    calls.start_soon(assert_refused, server, prompt)
            cluster.start()
            with anyio.fail_after(BACK_WITHIN_S):
                while (again := await server.use("create_video", prompt="another"))["outcome"] != "accepted":
                    assert again["outcome"] == "not_submitted"
            with anyio.fail_after(BACK_WITHIN_S + 15):  # an outcome is recorded again within 15 s
                while (first := await server.use("create_video", prompt="fly man"))["outcome"] != "accepted":
                    assert first["outcome"] in {"unknown", "not_submitted"}
            assert (first["task_id"], first["duplicate"]) == ("task_1", True)
    assert len(gateway.accepted()) == 2


async def test_an_answer_that_came_meanwhile_is_unknown_where_the_server_ended_too(
    cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold), ACCEPTED_NEXT)
    environ = on_postgres(tmp_path, gateway, cluster.database())
    with anyio.fail_after(90):
        async with host(environ) as server:
            await server.start()
            sending = await server.call("create_video", {"prompt": "fly man"})
            await hold.reached.wait()
            cluster.stop("immediate")
            hold.release.set()
            await server.answer(sending)
            await server.kill()
        cluster.start()
        async with host(environ) as server:
            await server.start()
            again = await server.use("create_video", prompt="fly man")
            assert again["outcome"] == "unknown"
    assert len(gateway.accepted()) == 1


async def test_two_hundred_calls_while_it_is_away_all_end_and_the_server_stays_at_hand(
    cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    environ = on_postgres(tmp_path, gateway, cluster.database())
    with anyio.fail_after(120):
        async with host(environ) as server:
            await server.start()
            assert (await server.use("create_video", prompt="fly man"))["outcome"] == "accepted"
            cluster.stop("immediate")
            try:
                async with anyio.create_task_group() as calls:
                    for number in range(200):
                        calls.start_soon(assert_refused, server, f"number {number}")
                    for _ in range(20):
                        await anyio.sleep(0.5)
                        with anyio.fail_after(2):
                            await server.ping()
                        assert threads_of(server.pid) < MOST_THREADS
            finally:
                cluster.start()
    assert len(gateway.creates()) == 1


async def test_while_it_is_slow_paid_calls_keep_their_place_in_line(cluster: Cluster) -> None:
    url = cluster.database()
    through: list[str] = []
    with closing(PostgresLedger(url)) as ledger:

        async def pay(prompt: str) -> None:
            await ledger.begin(Intent(G, "simple_compose", {"prompt": prompt}, prompt, [], Cost.of(1)))
            through.append(prompt)
            if prompt == "slow 1":
                calls.start_soon(pay, "the last")

        await pay("first")
        cluster.sql(SLOW, database_name(url))
        async with anyio.create_task_group() as calls:
            for prompt in ("slow 1", "slow 2", "third"):
                calls.start_soon(pay, prompt)
                await anyio.wait_all_tasks_blocked()
    assert through == ["first", "slow 1", "slow 2", "third", "the last"]


def threads_of(process: int) -> int:
    return len([*Path(f"/proc/{process}/task").iterdir()])


async def test_postgres_stands_still(cluster: Cluster, gateway: FaultGateway, tmp_path: Path) -> None:
    environ = on_postgres(tmp_path, gateway, cluster.database())
    with anyio.fail_after(120):
        async with host(environ) as server:
            await server.start()
            assert (await server.use("create_video", prompt="fly man"))["outcome"] == "accepted"
            with cluster.frozen():
                await assert_refused(server, "another", "does not answer", "takes too long")
            with anyio.fail_after(BACK_WITHIN_S):
                while (await server.use("create_video", prompt="another"))["outcome"] != "accepted":
                    pass
    assert len(gateway.creates()) == 2


async def test_a_wait_ends_in_time_where_postgres_stands_still_near_its_end(
    cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("GET", CREATE, RUNNING)
    async with host(on_postgres(tmp_path, gateway, cluster.database())) as server:
        await server.start()
        await server.use("create_video", prompt="fly man")
        began = anyio.current_time()
        one = await server.call("get_video", {"task_id": "task_1", "wait_seconds": 6})
        every = await server.call("list_videos", {"wait_seconds": 6})
        await anyio.sleep(3)
        with cluster.frozen(), anyio.fail_after(WAIT_ENDS_WITHIN_S):
            told = await server.answer(one)
            assert anyio.current_time() - began < 6 + 1
            assert (told["state"], told["progress"]) == ("running", 40)
            assert "The gateway or the ledger has not answered so far." in told["next_step"]
            assert "took too long" in (await server.answer(every))["error"]["message"]


async def test_a_create_whose_record_may_be_written_or_not_is_not_sent_and_blocks_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with anyio.create_task_group() as losses:
        for loses in get_args(Loss):  # all at once: most of them wait
            losses.start_soon(lose_a_record, cluster, tmp_path / loses, loses)


async def lose_a_record(cluster: Cluster, folder: Path, loses: Loss) -> None:
    url = cluster.database()
    async with fault_gateway() as gateway:
        gateway.on("POST", CREATE, ACCEPTED_NEXT)
        with proxy(cluster) as way, anyio.fail_after(120):
            async with host(on_postgres(folder, gateway, way.address(url))) as server:
                await server.start()
                assert (await server.use("create_video", prompt="of long ago"))["outcome"] == "accepted"
                way.loses = loses
                await assert_refused(server, "fly man")
                assert way.loses is None
                assert len(gateway.creates()) == 1
                await assert_another_may_send_it(on_postgres(folder / "other", gateway, url))
                assert (await server.use("create_video", prompt="fly man"))["duplicate"]
    assert len(gateway.accepted()) == 2


async def assert_another_may_send_it(environ: dict[str, str]) -> None:
    async with host(environ) as other:
        await other.start()
        with anyio.fail_after(BACK_WITHIN_S):
            while (again := await other.use("create_video", prompt="fly man"))["outcome"] != "accepted":
                assert again["outcome"] in {"unknown", "not_submitted"}
    assert again["task_id"] == "task_2"


@pytest.mark.parametrize("loses", ["before", "after"])
async def test_an_outcome_whose_record_may_be_written_or_not_is_recorded_again(cluster: Cluster, loses: Loss) -> None:
    with proxy(cluster) as way, closing(PostgresLedger(way.address(cluster.database()))) as ledger:
        request_id = await begin(ledger)
        way.loses, way.change = loses, b"UPDATE videos"
        with pytest.raises(FileProblem):
            await ledger.record_accepted(request_id, "task_1")
        assert way.loses is None
        assert (await ledger.record_accepted(request_id, "task_1")).task_id == "task_1"
        assert [state for state, _ in await ledger.history(request_id)] == ["sending", "submitted"]


@pytest.mark.parametrize("state", ["there", "standing still", "away"])
async def test_closing_is_quick_and_leaves_nothing(cluster: Cluster, state: str) -> None:
    url = cluster.database()
    ledger = PostgresLedger(url)
    await begin(ledger)
    with ExitStack() as meanwhile:
        if state == "standing still":
            meanwhile.enter_context(cluster.frozen())
        elif state == "away":
            cluster.stop("immediate")
            meanwhile.callback(cluster.start)
        began = anyio.current_time()
        ledger.close()
        assert anyio.current_time() - began < 1
    with anyio.fail_after(10):
        while sessions(cluster, database_name(url)) or threads_of_ledgers():  # noqa: ASYNC110 - others end them
            await anyio.sleep(0.05)


def threads_of_ledgers() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith(("pool-", "sora-ledger"))]
