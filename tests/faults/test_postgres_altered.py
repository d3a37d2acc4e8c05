"""A PostgreSQL whose tables, rights or settings somebody has changed, or an address that asks for what there is not."""

from __future__ import annotations

from contextlib import closing
from typing import Any, NamedTuple

import anyio
import pytest
from bench import ACCEPTED_NEXT, Connect, Run
from fault_gateway import CREATE, FaultGateway
from ledgers import begin, row
from mcp import Client
from postgres import Cluster
from postgres_faults import database_name

from sora_mcp.ledger.postgres.engine import PostgresLedger

pytestmark = pytest.mark.anyio

NOT_AS_IT_WAS = "The ledger in PostgreSQL was changed"
OF_OTHERS = "or its table ledger_schema is missing"
MAY_NOT = "its user lacks a privilege"


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    return gateway


async def create(client: Client, prompt: str) -> dict[str, Any]:
    with anyio.fail_after(35):
        return dict((await client.call_tool("create_video", {"prompt": prompt})).structured_content or {})


async def assert_refused(client: Client, words: str) -> dict[str, Any]:
    refused = await create(client, "another")
    assert refused["outcome"] == "not_submitted", refused
    assert words in refused["error"]["message"], refused
    assert "Nothing was submitted" in refused["error"]["message"]
    assert not [word for word in ("psycopg", "Traceback", "relation", "column", "SELECT") if word in str(refused)]
    return refused


class Change(NamedTuple):
    """Statements that change something and put it back, and what a server says that starts meanwhile."""

    change: str
    back: str
    said: str = NOT_AS_IT_WAS


CHANGES = (
    Change("ALTER TABLE history RENAME TO old", "ALTER TABLE old RENAME TO history"),
    Change("ALTER TABLE generations RENAME TO old", "ALTER TABLE old RENAME TO generations"),
    Change("ALTER TABLE video_counts RENAME TO old", "ALTER TABLE old RENAME TO video_counts"),
    Change("ALTER TABLE videos RENAME cost TO price", "ALTER TABLE videos RENAME price TO cost"),
    Change("ALTER TABLE history ALTER state TYPE VARCHAR(3) USING 'old'", "ALTER TABLE history ALTER state TYPE TEXT"),
    Change(
        "ALTER TABLE videos ADD mood TEXT NOT NULL DEFAULT ''; ALTER TABLE videos ALTER mood DROP DEFAULT",
        "ALTER TABLE videos DROP mood",
    ),
    Change("DELETE FROM ledger_schema", "INSERT INTO ledger_schema VALUES (1, 0)", OF_OTHERS),
    Change("ALTER TABLE ledger_schema RENAME TO old", "ALTER TABLE old RENAME TO ledger_schema", OF_OTHERS),
    Change("ALTER SCHEMA public RENAME TO old", "ALTER SCHEMA old RENAME TO public", "are in the schema old"),
    Change("ALTER TABLE videos DISABLE TRIGGER videos_added", "ALTER TABLE videos ENABLE TRIGGER videos_added"),
    Change("ALTER TABLE videos SET UNLOGGED", "ALTER TABLE videos SET LOGGED"),
    Change("ALTER TABLE videos DROP CONSTRAINT videos_request_id_key", "ALTER TABLE videos ADD UNIQUE (request_id)"),
    Change(
        "ALTER TABLE used_answers DROP CONSTRAINT used_answers_pkey",
        "ALTER TABLE used_answers ADD PRIMARY KEY (answer_id)",
    ),
)


@pytest.mark.parametrize("made", CHANGES, ids=[each.change for each in CHANGES])
async def test_what_was_dropped_renamed_or_changed_is_not_called_a_backup_and_works_again_once_it_is_back(
    cluster: Cluster, connect: Connect, gateway: FaultGateway, made: Change
) -> None:
    url = cluster.database()
    name = database_name(url)
    async with connect(ledger_url=url) as client:
        assert (await create(client, "fly man"))["outcome"] == "accepted"
        cluster.sql(made.change, name)
        refused = await assert_refused(client, NOT_AS_IT_WAS)
        assert not refused["error"]["retryable"]
        async with connect(ledger_url=url) as other:
            await assert_refused(other, made.said)
        cluster.sql(made.back, name)
        assert (await create(client, "another"))["outcome"] == "accepted"
        assert (await create(client, "fly man"))["duplicate"]
    assert len(gateway.creates()) == 2


def test_the_doctor_breaks_on_nothing_that_was_changed(cluster: Cluster, run: Run) -> None:
    url = cluster.database()
    run("create", "a boat", LEDGER_URL=url)
    for made in CHANGES:
        cluster.sql(made.change, database_name(url))
        found = run("doctor", LEDGER_URL=url)
        assert found.stderr == "", made.change
        assert "DELETE" not in made.change or "its table ledger_schema is empty" in found.stdout
        cluster.sql(made.back, database_name(url))
    assert "✓ ledger:" in run("doctor", LEDGER_URL=url).stdout


async def test_no_empty_ledger_is_made_beside_one_in_a_schema_that_is_not_looked_at(
    cluster: Cluster, connect: Connect, run: Run, gateway: FaultGateway
) -> None:
    url = cluster.database()
    async with connect(ledger_url=url) as client:
        assert (await create(client, "fly man"))["outcome"] == "accepted"
    cluster.sql("CREATE SCHEMA private", database_name(url))
    elsewhere = f"{url}?options=-csearch_path%3Dprivate"
    async with connect(ledger_url=elsewhere) as client:
        refused = await create(client, "fly man")
        assert refused["outcome"] == "not_submitted"
        assert "its tables are in the schema public, which the search_path of its user" in refused["error"]["message"]
    doctor = await anyio.to_thread.run_sync(lambda: run("doctor", LEDGER_URL=elsewhere))
    assert "its tables are in the schema public" in doctor.stdout
    async with connect(ledger_url=f"{url}?options=-csearch_path%3Dprivate,public") as client:
        assert (await create(client, "fly man"))["duplicate"]
    assert len(gateway.creates()) == 1


async def test_a_sequence_that_stands_behind_its_rows_is_named(
    cluster: Cluster, connect: Connect, gateway: FaultGateway
) -> None:
    url = cluster.database()
    async with connect(ledger_url=url) as client:
        assert (await create(client, "fly man"))["outcome"] == "accepted"
        cluster.sql("ALTER TABLE videos ALTER number RESTART WITH 1", database_name(url))
        await assert_refused(client, "a sequence is behind the rows of its table")
    assert len(gateway.creates()) == 1


async def another_user(cluster: Cluster, connect: Connect, name: str) -> str:
    """The address of a ledger that was begun by its owner, for a user who may do all with its tables."""
    url = cluster.database()
    async with connect(ledger_url=url) as client:
        assert (await create(client, "fly man"))["outcome"] == "accepted"
    cluster.sql(f"CREATE ROLE {name} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}", database_name(url))
    return url.replace("sora@", f"{name}@")


async def test_nothing_is_paid_for_by_a_user_who_could_not_record_its_outcome(
    cluster: Cluster, connect: Connect, gateway: FaultGateway
) -> None:
    url = await another_user(cluster, connect, "adder")
    cluster.sql("REVOKE UPDATE ON videos FROM adder", database_name(url))
    async with connect(ledger_url=url) as client:
        await assert_refused(client, MAY_NOT)
        assert (await create(client, "fly man"))["duplicate"]
    assert len(gateway.creates()) == 1


async def test_nothing_is_paid_for_by_a_user_from_whom_rows_are_hidden(
    cluster: Cluster, connect: Connect, gateway: FaultGateway
) -> None:
    url = await another_user(cluster, connect, "blind")
    cluster.sql(
        "ALTER TABLE videos ENABLE ROW LEVEL SECURITY; CREATE POLICY adds ON videos FOR INSERT WITH CHECK (true);"
        " CREATE POLICY sees ON videos FOR SELECT USING (created_at > extract(epoch FROM now()) - 1)",
        database_name(url),
    )
    await anyio.sleep(1)
    async with connect(ledger_url=url) as client:
        await assert_refused(client, MAY_NOT)
        assert (await create(client, "fly man"))["outcome"] == "not_submitted"
    assert len(gateway.creates()) == 1


async def test_times_are_exact_however_few_digits_the_database_tells(cluster: Cluster) -> None:
    url = cluster.database()
    cluster.sql(f"ALTER DATABASE {database_name(url)} SET extra_float_digits = -12")
    (before,) = cluster.sql("SELECT extract(epoch FROM now())::float8")[0]
    with closing(PostgresLedger(url)) as ledger:
        assert abs((await row(ledger, await begin(ledger))).created_at - before) < 60


@pytest.mark.parametrize(
    "parameters", ["host=127.0.0.1,127.0.0.1,127.0.0.1&port=1,2", "options=-c%20nonsense%3D1", "options=-Z"]
)
async def test_parameters_that_cannot_be_used_are_named_as_what_is_wrong(
    cluster: Cluster, connect: Connect, gateway: FaultGateway, parameters: str
) -> None:
    url = cluster.database()
    address = f"postgresql://sora@/{database_name(url)}?" if "host=" in parameters else f"{url}?"
    async with connect(ledger_url=address + parameters) as client:
        refused = await assert_refused(client, "a parameter in its address has an invalid value")
    assert not refused["error"]["retryable"]
    assert gateway.creates() == []
