"""A PostgreSQL that refuses, lacks something or cannot be trusted: nothing is submitted, in words that help."""

from __future__ import annotations

import logging
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from io import RawIOBase
from typing import Any

import anyio
import psycopg
import pytest
from bench import ACCEPTED_NEXT, Connect, Run
from disks import small_disk_at
from fault_gateway import CREATE, FaultGateway, closed_address
from ledgers import GUARDED, G, begin, row
from mcp import Client
from postgres import Cluster, running_cluster
from postgres_faults import database_name, pgbouncer

from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger import Intent
from sora_mcp.ledger.postgres.address import describe_database
from sora_mcp.ledger.postgres.engine import PostgresLedger
from sora_mcp.ledger.postgres.errors import problem_from
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.readiness import ReadinessCheck

pytestmark = pytest.mark.anyio

PASSWORD = "geheim-canary-77"  # noqa: S105 - whoever looks for a leak looks for this
FOREIGN = (PASSWORD, "psycopg", "Traceback", "FATAL", "SELECT", "127.0.0.1")
TLS_ONLY = "hostssl all tls 127.0.0.1/32 trust"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One with a user who has a password, and one who may come by TLS only."""
    with running_cluster("max_connections=12", "superuser_reserved_connections=3") as started:
        started.sql(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE tls LOGIN")
        rules = f"host all plain 127.0.0.1/32 scram-sha-256\n{TLS_ONLY}\nhost all sora,narrow 127.0.0.1/32 trust\n"
        (started.data / "pg_hba.conf").write_text(rules)
        started.sql("SELECT pg_reload_conf()")
        yield started


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    return gateway


@pytest.fixture(autouse=True)
def _nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    lines = "\n".join(f"{each.name} {each.getMessage()} {each.exc_info}" for each in caplog.get_records("call"))
    assert PASSWORD not in lines
    assert not [line for line in lines.splitlines() if line.startswith("sora_mcp") and "psycopg" in line]


def by(url: str, user: str, password: str = "") -> str:
    """The same database for another user."""
    return url.replace("sora@", f"{user}:{password}@" if password else f"{user}@")


async def create(client: Client, prompt: str = "fly man") -> dict[str, Any]:
    with anyio.fail_after(35):
        called = await client.call_tool("create_video", {"prompt": prompt})
    structured: dict[str, Any] = called.structured_content
    return structured


async def assert_refused(client: Client, words: str) -> dict[str, Any]:
    refused = await create(client, "another")
    assert refused["outcome"] == "not_submitted", refused
    assert words in refused["error"]["message"], refused
    assert "Nothing was submitted" in str(refused)
    assert not [word for word in FOREIGN if word in str(refused)]
    return refused


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("plain:wrong-canary@{}", "does not accept this user and password"),
        ("plain@{}", "does not accept this user and password"),
        ("nobody:x@{}", "does not accept this user this way"),
        ("tls@{}", "does not accept this user this way"),
        ("sora@{}_not", "no such database"),
        ("sora@{}?sslmode=require", "does not offer TLS, which sslmode requires"),
        *(
            (f"sora@{{}}?{parameter}", "a parameter in its address has an invalid value")
            for parameter in (
                "sslmode=on",
                "connect_timeout=5s",
                "keepalives_idle=x",
                "channel_binding=require",
                "ssl_min_protocol_version=9",
                "service=nowhere",
            )
        ),
        ("sora@{}?target_session_attrs=standby", "does not match target_session_attrs"),
    ],
)
async def test_an_address_that_lets_nobody_in(
    cluster: Cluster, connect: Connect, gateway: FaultGateway, address: str, words: str
) -> None:
    url = f"postgresql://{address.format(cluster.database().partition('@')[2])}"
    began = time.monotonic()
    async with connect(ledger_url=url) as client:
        refused = await assert_refused(client, words)
    assert not refused["error"]["retryable"]
    assert "correct SORA_LEDGER_URL" in refused["error"]["next_step"]
    assert time.monotonic() - began < 10
    assert gateway.creates() == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('root certificate file "/home/.postgresql/root.crt" does not exist\nEither provide the file', "sslrootcert"),
        ("SSL error: certificate verify failed", "sslrootcert"),
        ("FATAL:  terminating connection due to x\nSSL connection has been closed unexpectedly", "connection was lost"),
        ("SSL SYSCALL error: EOF detected", "the connection was lost"),
        ("server does not support SSL, but SSL was required", "does not offer TLS"),
        ('FATAL:  no pg_hba.conf entry for host "::1", user "u", database "d", no encryption', "see sslmode"),
    ],
)
def test_a_way_that_is_not_encrypted_as_is_asked_for(said: str, words: str) -> None:
    told = str(problem_from(psycopg.OperationalError(f'connection to server at "10.0.0.7", port 5432 failed: {said}')))
    assert words in told
    assert "10.0.0.7" not in told
    assert "/home" not in told


def test_a_user_with_all_connections_that_are_granted_is_not_said_to_have_a_wrong_password() -> None:
    told = problem_from(psycopg.OperationalError('connection failed: FATAL:  too many connections for role "team"'))
    assert "it has no free connection" in str(told)
    assert told.can_retry


def test_an_address_with_a_parameter_that_there_is_not() -> None:
    with pytest.raises(FileProblem) as refused:
        describe_database("postgresql://u:geheim-canary-77@127.0.0.1/db?slmode=require")
    assert "parameters that libpq knows, such as sslmode" in str(refused.value.advice)
    assert "canary" not in str(refused.value) + str(refused.value.advice)


@pytest.mark.parametrize(
    "address", ["postgresql://u:geheim-canary-77@{}/db", "postgresql://u:geheim-canary-77@nowhere.invalid/db"]
)
async def test_an_address_where_nothing_is(connect: Connect, gateway: FaultGateway, address: str) -> None:
    url = address.format(closed_address().removeprefix("http://"))
    async with connect(ledger_url=url) as client:
        await assert_refused(client, "host name cannot be resolved" if "nowhere" in address else "cannot be reached")
    assert gateway.creates() == []


async def test_a_user_who_may_not_make_tables(cluster: Cluster, connect: Connect, gateway: FaultGateway) -> None:
    async with connect(ledger_url=by(cluster.database(), "plain", PASSWORD)) as client:
        await assert_refused(client, "its user lacks a privilege")
    assert gateway.creates() == []


async def test_a_user_who_owns_nothing_but_the_database_is_enough(
    cluster: Cluster, connect: Connect, gateway: FaultGateway
) -> None:
    url = cluster.database()
    cluster.sql(f"ALTER DATABASE {database_name(url)} OWNER TO plain")
    async with connect(ledger_url=by(url, "plain", PASSWORD)) as client:
        assert (await create(client))["outcome"] == "accepted"
    assert len(gateway.creates()) == 1


async def test_a_database_that_hides_its_log_is_used_and_that_is_said(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    url = cluster.database()
    name = database_name(url)
    cluster.sql(f"ALTER DATABASE {name} OWNER TO plain")
    cluster.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC", name)
    with closing(PostgresLedger(by(url, "plain", PASSWORD))) as ledger:
        await begin(ledger)
        assert "does not show its user where its log stands" in caplog.text


async def test_a_database_that_is_set_read_only(cluster: Cluster, connect: Connect, gateway: FaultGateway) -> None:
    url = cluster.database()
    async with connect(ledger_url=url) as client:
        assert (await create(client))["outcome"] == "accepted"
    cluster.sql(f"ALTER DATABASE {database_name(url)} SET default_transaction_read_only = on")
    async with connect(ledger_url=url) as client:
        await assert_refused(client, "it is read-only")
        listed = (await client.call_tool("list_videos", {})).structured_content
        assert [each["task_id"] for each in listed["videos"]] == ["task_1"]
    assert len(gateway.creates()) == 1


async def test_no_connection_is_left(cluster: Cluster, connect: Connect, gateway: FaultGateway) -> None:
    url = cluster.database()
    cluster.sql(f"ALTER DATABASE {database_name(url)} OWNER TO plain")
    url = by(url, "plain", PASSWORD)
    with ExitStack() as others:
        for _ in range(9):
            others.enter_context(closing(psycopg.connect(url)))
        async with connect(ledger_url=url) as client:
            await assert_refused(client, "no free connection")
            others.close()
            assert (await create(client))["outcome"] == "accepted"
    assert len(gateway.creates()) == 1


async def test_calls_at_once_are_all_told_in_time_that_a_user_has_no_connection_left(
    cluster: Cluster, connect: Connect, gateway: FaultGateway
) -> None:
    url = cluster.database()
    cluster.sql(f"CREATE ROLE narrow LOGIN CONNECTION LIMIT 1; ALTER DATABASE {database_name(url)} OWNER TO narrow")
    async with connect(ledger_url=by(url, "sora")) as client:
        await client.call_tool("list_videos", {})
    cluster.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO narrow", database_name(url))
    async with connect(ledger_url=by(url, "narrow")) as client, anyio.create_task_group() as calls:
        for _ in range(5):
            calls.start_soon(assert_refused, client, "cannot be used")
    assert gateway.creates() == []


async def test_somebody_holds_the_tables(cluster: Cluster, connect: Connect, gateway: FaultGateway) -> None:
    url = cluster.database()
    async with connect(ledger_url=url) as client:
        assert (await create(client))["outcome"] == "accepted"
        with closing(psycopg.connect(url)) as other:
            other.execute("LOCK TABLE videos IN SHARE MODE")  # it may be read
            await assert_refused(client, "another process has locked it")
        assert (await create(client, "another"))["outcome"] == "accepted"
    assert len(gateway.creates()) == 2


@pytest.mark.chaos
async def test_the_disk_is_full(cluster: Cluster, connect: Connect, gateway: FaultGateway) -> None:
    with small_disk_at(cluster.folder / "small", "9m") as disk, ExitStack() as afterwards:
        shutil.chown(disk, "postgres")
        cluster.sql(f"CREATE TABLESPACE small LOCATION '{disk}'")
        afterwards.callback(cluster.sql, "DROP TABLESPACE small")
        cluster.sql("CREATE DATABASE small TABLESPACE small")
        afterwards.callback(cluster.sql, "DROP DATABASE small WITH (FORCE)")
        async with connect(ledger_url=f"postgresql://sora@127.0.0.1:{cluster.port}/small") as client:
            assert (await create(client))["outcome"] == "accepted"
            with (disk / "filler").open("wb", buffering=0) as filler:
                fill(filler)
            for number in range(100):
                refused = await create(client, f"number {number} {'long ' * 200}")
                if refused["outcome"] == "not_submitted":
                    break
            assert refused["outcome"] == "not_submitted"  # of an earlier one the answer may be to be recorded still
            assert "the disk is full" in refused["error"]["message"]
            (disk / "filler").unlink()
            assert (await create(client, "another"))["outcome"] == "accepted"
            with anyio.fail_after(20):
                while tasks_in("small", cluster) != len(gateway.accepted()):  # noqa: ASYNC110 - a server does it
                    await anyio.sleep(0.2)


def tasks_in(database: str, cluster: Cluster) -> int:
    return int(cluster.sql("SELECT count(*) FROM videos WHERE task_id IS NOT NULL", database)[0][0])


def fill(filler: RawIOBase) -> None:
    """Leave nothing of its disk."""
    with suppress(OSError):
        while True:
            filler.write(bytes(4096))


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
async def test_a_pooler_in_front_is_refused_by_every_command(
    cluster: Cluster, connect: Connect, gateway: FaultGateway, run: Run, mode: str
) -> None:
    url = cluster.database()
    with pgbouncer(cluster, mode) as port:
        pooled = url.replace(f":{cluster.port}/", f":{port}/")
        async with connect(ledger_url=pooled) as client:
            await assert_refused(client, "connection pooler")
        if mode == "transaction":
            listed = run("list", LEDGER_URL=pooled)
            assert listed.returncode != 0
            assert "connection pooler" in listed.stderr
    assert gateway.creates() == []


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_every_text_is_kept_whatever_encoding_its_clients_begin_with(
    cluster: Cluster, connect: Connect, encoding: str
) -> None:
    url = cluster.database()
    cluster.sql(f"ALTER DATABASE {database_name(url)} SET client_encoding = {encoding}")
    async with connect(ledger_url=f"{url}?client_encoding={encoding}") as client:
        assert (await create(client, "飞人 🎬 é"))["outcome"] == "accepted"
        listed = (await client.call_tool("list_videos", {})).structured_content
    assert [each["prompt"] for each in listed["videos"]] == ["飞人 🎬 é"]


async def test_a_database_in_an_encoding_that_lacks_letters_is_refused(
    cluster: Cluster, connect: Connect, gateway: FaultGateway
) -> None:
    cluster.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    async with connect(ledger_url=cluster.database().rpartition("/")[0] + "/latin") as client:
        await assert_refused(client, "its encoding is LATIN1")
    assert gateway.creates() == []


async def test_a_user_without_a_schema_is_told_so(cluster: Cluster, connect: Connect, gateway: FaultGateway) -> None:
    url = cluster.database()
    cluster.sql(f"ALTER DATABASE {database_name(url)} SET search_path = nowhere")
    async with connect(ledger_url=url) as client:
        await assert_refused(client, "see search_path")
    assert gateway.creates() == []


async def test_a_database_that_writes_nothing_through_is_refused(
    cluster: Cluster, connect: Connect, gateway: FaultGateway
) -> None:
    url = cluster.database()
    try:
        cluster.sql("ALTER SYSTEM SET fsync = off")
        cluster.sql("SELECT pg_reload_conf()")
        give_up_at = time.monotonic() + 10
        while cluster.sql("SHOW fsync") != [("off",)]:
            assert time.monotonic() < give_up_at
        async with connect(ledger_url=url) as client:
            await assert_refused(client, "fsync is off")
    finally:
        cluster.sql("ALTER SYSTEM RESET fsync")
        cluster.sql("SELECT pg_reload_conf()")
    assert gateway.creates() == []


async def test_a_command_ends_where_the_database_is_away_or_stands_still(cluster: Cluster, run: Run) -> None:
    url = by(cluster.database(), "plain", PASSWORD)
    away = f"postgresql://plain:{PASSWORD}@{closed_address().removeprefix('http://')}/db"
    ended: list[subprocess.CompletedProcess[str]] = []

    def list_videos(place: str) -> None:
        ended.append(run("list", LEDGER_URL=place))

    with cluster.frozen(), anyio.fail_after(30):
        async with anyio.create_task_group() as commands:
            for place in (away, url):
                commands.start_soon(anyio.to_thread.run_sync, list_videos, place)
    assert len(ended) == 2
    for each in ended:
        assert each.returncode != 0
        assert "The ledger in PostgreSQL cannot be used" in each.stderr
        assert not [word for word in FOREIGN if word in each.stdout + each.stderr]


async def test_ages_windows_and_dates_are_those_of_the_database(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cluster.database()
    with closing(PostgresLedger(url)) as first:
        request_id = await begin(first)
        await first.record_accepted(request_id, "task_1")
    (real,) = cluster.sql("SELECT extract(epoch FROM now())::float8")[0]
    for wrong in (-600.0, 600.0):
        monkeypatch.setattr(time, "time", lambda wrong=wrong: real + wrong)
        with closing(PostgresLedger(url)) as ledger:
            again, is_new = await ledger.begin(Intent(G, "simple_compose", {}, "same", [], None), GUARDED)
            assert (again.request_id, is_new) == (request_id, False)
            assert ledger.age(await row(ledger, request_id)) < 60
            async with ledger.lease(request_id, 0.1) as is_ours:
                assert is_ours == (wrong < 0)  # the second one finds it taken by the first
    other = await _begun_with_clock(url)
    assert abs(other - real) < 60


async def _begun_with_clock(url: str) -> float:
    with closing(PostgresLedger(url)) as ledger:
        return (await row(ledger, await begin(ledger))).created_at


async def test_a_ledger_that_is_closed_says_nothing_of_a_loss(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sora_mcp")
    with closing(PostgresLedger(cluster.database())) as ledger:
        await begin(ledger)
        await anyio.sleep(0.2)
    assert "was lost" not in caplog.text


async def test_the_gateway_is_not_blamed_while_the_ledger_is_away(make_settings: Callable[..., Settings]) -> None:
    url = f"postgresql://u@{closed_address().removeprefix('http://')}/db"
    settings = make_settings(ledger_url=url)
    with closing(PostgresLedger(url)) as ledger:
        seen = await ReadinessCheck(settings, ledger, Connector(settings, ledger)).check()
    assert seen.gateway == "The gateway is not checked while the ledger cannot be used."
