"""A PostgreSQL that was taken back to an earlier state, or replaced by a copy, under servers; other releases."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from bench import ACCEPTED_NEXT, RUNNING, environment
from fault_gateway import CREATE, FaultGateway, Hold
from ledgers import begin, row
from postgres import Cluster, running_cluster
from postgres_faults import database_name, fail_over, replica_of
from wire import Host, host

from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger import Account
from sora_mcp.ledger.postgres.engine import PostgresLedger
from sora_mcp.ledger.postgres.migrations import STEPS, NewerRelease, Step
from sora_mcp.ledger.sql.transactions import OlderRelease

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TAKEN_BACK = "taken back to an earlier state"
EMPTY = "an empty database has taken its place"
BORNE = Step("ALTER TABLE videos ADD COLUMN mood TEXT")
NOT_BORNE = Step("ALTER TABLE videos ADD COLUMN mood TEXT", is_compatible=False)


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    return gateway


@asynccontextmanager
async def three_servers(folder: Path, gateway: FaultGateway, url: str) -> AsyncIterator[tuple[Host, ...]]:
    """Servers that share a ledger: the first two have paid for something, the third has only looked."""
    environments = [environment(folder / name, gateway, LEDGER_URL=url) for name in ("a", "b", "c")]
    async with host(environments[0]) as first, host(environments[1]) as second, host(environments[2]) as third:
        async with anyio.create_task_group() as starting:
            for server in (first, second, third):
                starting.start_soon(look, server)
        await pay(first, "of long ago")
        await pay(second, "of long ago, too")
        yield first, second, third


async def look(server: Host) -> None:
    await server.start()
    await server.use("list_videos")


async def pay(server: Host, prompt: str) -> None:
    """A create that is accepted, within the time that a database may take to come back."""
    with anyio.fail_after(30):
        while (answer := await server.use("create_video", prompt=prompt))["outcome"] != "accepted":
            assert answer["outcome"] == "not_submitted", answer
            assert answer["error"]["retryable"], answer


async def assert_all_notice_it(servers: tuple[Host, ...], words: str = TAKEN_BACK) -> None:
    async with anyio.create_task_group() as noticing:
        for server in servers:
            noticing.start_soon(assert_it_is_noticed, server, words)


async def assert_it_is_noticed(server: Host, words: str) -> None:
    with anyio.fail_after(60):
        for _ in range(3):
            answer = await server.use("create_video", prompt="another")
            assert answer["outcome"] == "not_submitted", answer
            if words in answer["error"]["message"]:
                return
    raise AssertionError(answer)


@pytest.fixture
def lone() -> Iterator[Cluster]:
    """A PostgreSQL of the test's own."""
    with running_cluster() as started:
        yield started


async def test_a_copy_of_its_files_is_put_back(lone: Cluster, gateway: FaultGateway, tmp_path: Path) -> None:
    url = lone.database()
    async with three_servers(tmp_path, gateway, url) as servers:
        lone.stop()
        await anyio.run_process(["cp", "-a", str(lone.data), str(lone.folder / "backup")])
        lone.start()
        await pay(servers[1], "fly man")
        lone.stop("immediate")
        shutil.rmtree(lone.data)
        (lone.folder / "backup").rename(lone.data)
        lone.start()
        await assert_all_notice_it(servers)
    assert len(gateway.creates()) == 3


@asynccontextmanager
async def dump_to_put_back(cluster: Cluster, name: str) -> AsyncIterator[None]:
    """A dump of a database that three servers use; it is put back over it on leaving."""
    cluster.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    cluster.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608
    cluster.sql(f"CREATE DATABASE backup TEMPLATE {name}")
    cluster.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    idle = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND state = 'idle'"  # noqa: S608
    held = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid IN ({idle})"  # noqa: S608
    with anyio.fail_after(20):
        while cluster.sql(held) != [(3,)]:  # noqa: ASYNC110 - they come back
            await anyio.sleep(0.05)
    yield
    cluster.sql(f"DROP DATABASE {name} WITH (FORCE)")
    cluster.sql(f"ALTER DATABASE backup RENAME TO {name}")


async def test_a_dump_is_put_back_over_it(cluster: Cluster, gateway: FaultGateway, tmp_path: Path) -> None:
    url = cluster.database()
    async with three_servers(tmp_path, gateway, url) as servers:
        async with dump_to_put_back(cluster, database_name(url)):
            await pay(servers[1], "fly man")
            for server in servers:
                await server.use("list_videos")
        await assert_all_notice_it(servers)
    assert len(gateway.creates()) == 3


async def test_a_server_that_was_stopped_notices_the_dump_that_was_put_back_meanwhile(
    cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    """It never saw what was paid for after the dump."""
    url = cluster.database()
    async with three_servers(tmp_path, gateway, url) as servers:
        async with dump_to_put_back(cluster, database_name(url)):
            os.kill(servers[2].pid, signal.SIGSTOP)
            await pay(servers[1], "another")
        os.kill(servers[2].pid, signal.SIGCONT)
        await assert_it_is_noticed(servers[2], TAKEN_BACK)
    assert len(gateway.creates()) == 3


async def test_who_waits_for_a_video_that_is_gone_is_told_so(
    cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("GET", CREATE, RUNNING)
    url = cluster.database()
    async with host(environment(tmp_path, gateway, LEDGER_URL=url)) as server:
        await look(server)
        await pay(server, "fly man")
        one = await server.call("get_video", {"task_id": "task_1", "wait_seconds": 12})
        every = await server.call("list_videos", {"wait_seconds": 12})
        await anyio.sleep(2)
        cluster.sql("DELETE FROM videos", database_name(url))  # as a backup that was put back
        with anyio.fail_after(25):
            told = await server.answer(one)
            assert "taken back to an earlier copy" in told["error"]["message"]
            listed = await server.answer(every)
    assert (listed["waited_for"], listed["finished"]) == (1, 0)
    assert "taken back to an earlier copy" in listed["next_step"]


async def test_an_empty_database_stands_in_its_place(cluster: Cluster, gateway: FaultGateway, tmp_path: Path) -> None:
    url = cluster.database()
    name = database_name(url)
    async with three_servers(tmp_path, gateway, url) as servers:
        cluster.sql(f"DROP DATABASE {name} WITH (FORCE)")
        cluster.sql(f"CREATE DATABASE {name}")
        await assert_all_notice_it(servers, EMPTY)
    assert len(gateway.creates()) == 2


async def test_a_copy_that_lacks_the_last_requests_takes_over(
    lone: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    url = lone.database()
    with replica_of(lone, "copy") as copy:
        async with three_servers(tmp_path, gateway, url) as servers:
            copy.stop()
            await pay(servers[1], "fly man")
            fail_over(lone, copy)
            await assert_all_notice_it(servers)
    assert len(gateway.creates()) == 3


async def test_a_copy_that_lacks_nothing_takes_over_and_all_goes_on(
    lone: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    url = lone.database()
    with replica_of(lone, "copy") as copy:
        lone.sql("ALTER SYSTEM SET synchronous_standby_names = 'copy'")
        lone.sql("SELECT pg_reload_conf()")
        async with three_servers(tmp_path, gateway, url) as servers:
            await pay(servers[1], "fly man")
            fail_over(lone, copy)
            copy.sql("ALTER SYSTEM RESET synchronous_standby_names")
            copy.sql("SELECT pg_reload_conf()")
            for number, server in enumerate(servers):
                await pay(server, f"number {number}")
            again = await servers[0].use("create_video", prompt="fly man")
            assert (again["task_id"], again["duplicate"]) == ("task_3", True)
    assert len(gateway.creates()) == 6


async def test_while_no_copy_has_it_nothing_is_sent(lone: Cluster) -> None:
    lone.sql("ALTER SYSTEM SET synchronous_standby_names = 'copy'")
    with closing(PostgresLedger(lone.database())) as ledger:
        await ledger.states()
        lone.sql("SELECT pg_reload_conf()")
        with anyio.fail_after(35), pytest.raises(FileProblem):
            await begin(ledger)
        lone.sql("ALTER SYSTEM RESET synchronous_standby_names")
        lone.sql("SELECT pg_reload_conf()")
        await begin(ledger, Account("other"))
        with anyio.fail_after(30):
            while await ledger.states() != {"rejected": 1, "sending": 1}:  # noqa: ASYNC110 - PostgreSQL tells nobody
                await anyio.sleep(0.1)


@pytest.mark.parametrize("level", ["notice", "error"])
async def test_a_request_whose_wait_for_a_copy_is_cancelled_is_not_sent(lone: Cluster, level: str) -> None:
    url = lone.database()
    lone.sql(f"ALTER DATABASE {database_name(url)} SET client_min_messages = {level}")
    lone.sql("ALTER SYSTEM SET synchronous_standby_names = 'copy'")
    waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with closing(PostgresLedger(url)) as ledger:
        await ledger.states()
        lone.sql("SELECT pg_reload_conf()")

        async def cancel() -> None:
            while not await anyio.to_thread.run_sync(lone.sql, waiting):  # noqa: ASYNC110 - PostgreSQL tells nobody
                await anyio.sleep(0.05)

        with anyio.fail_after(35):
            async with anyio.create_task_group() as meanwhile:
                meanwhile.start_soon(cancel)
                with pytest.raises(FileProblem):
                    await begin(ledger)


# --- releases -------------------------------------------------------------------------------------


async def test_a_step_that_older_servers_bear_is_made_beside_them(cluster: Cluster) -> None:
    url = cluster.database()
    with closing(PostgresLedger(url)) as older, closing(PostgresLedger(url, steps=(*STEPS, BORNE))) as newer:
        request_id = await begin(older)
        with anyio.fail_after(5):
            assert (await row(newer, request_id)).state == "sending"
        assert (await older.record_accepted(request_id, "task_1")).state == "submitted"
        await begin(older)
        await begin(newer)


async def test_a_step_that_they_do_not_bear_waits_for_what_they_are_sending_and_no_longer(cluster: Cluster) -> None:
    url = cluster.database()
    with closing(PostgresLedger(url)) as older, closing(PostgresLedger(url, steps=(*STEPS, NOT_BORNE))) as newer:
        request_id = await begin(older)
        with pytest.raises(OlderRelease, match="Another server runs an older release"):
            await newer.states()
        with pytest.raises(NewerRelease, match="newer release"):
            await begin(older)
        assert (await older.record_accepted(request_id, "task_1")).state == "submitted"
        await begin(newer)
        with pytest.raises(NewerRelease):
            await begin(older)
        assert (await row(older, request_id)).task_id == "task_1"


async def test_of_many_that_start_at_once_one_makes_the_schema(cluster: Cluster) -> None:
    url = cluster.database()
    with ExitStack() as opened:
        ledgers = [opened.enter_context(closing(PostgresLedger(url))) for _ in range(8)]
        async with anyio.create_task_group() as starting, anyio.create_task_group():
            for each in ledgers:
                starting.start_soon(begin, each)
        assert await ledgers[0].states() == {"sending": 8}


async def test_a_newer_server_is_not_ready_while_an_older_one_sends(
    cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold), ACCEPTED_NEXT)
    url = cluster.database()
    async with host(environment(tmp_path, gateway, LEDGER_URL=url)) as older:
        await older.start()
        sending = await older.call("create_video", {"prompt": "fly man"})
        await hold.reached.wait()
        with closing(PostgresLedger(url, steps=(*STEPS, NOT_BORNE))) as newer:
            with pytest.raises(OlderRelease):
                await newer.states()
            hold.release.set()
            assert (await older.answer(sending))["task_id"] == "task_1"
            assert await newer.states() == {"submitted": 1}
        refused = await older.use("create_video", prompt="another")
        assert refused["outcome"] == "not_submitted"
        assert "newer release has taken over" in refused["error"]["message"]
    assert len(gateway.creates()) == 1


async def test_what_was_being_paid_for_meanwhile_has_a_row_again(
    tmp_path: Path, gateway: FaultGateway, cluster: Cluster
) -> None:
    url = cluster.database()
    hold, answers = Hold(), list[dict[str, object]]()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))

    async def create(server: Host) -> None:
        answers.append(await server.use("create_video", prompt="a boat"))

    async with host(environment(tmp_path / "a", gateway, LEDGER_URL=url)) as server:
        await server.start()
        with anyio.fail_after(60):
            async with anyio.create_task_group() as paying:
                paying.start_soon(create, server)
                await hold.reached.wait()
                cluster.sql("DELETE FROM videos", database_name(url))
                hold.release.set()
    rows = cluster.sql("SELECT state, task_id, fingerprint IS NOT NULL FROM videos", database_name(url))
    assert rows == [("submitted", answers[0]["task_id"], True)]
    assert answers[0]["outcome"] == "accepted"
