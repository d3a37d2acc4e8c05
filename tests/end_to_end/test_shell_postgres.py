"""The shell where the ledger is in PostgreSQL: every command, the doctor, and addresses that cannot be meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench import Run
from postgres import Cluster
from postgres_faults import database_name

pytestmark = pytest.mark.slow

NEVER_SHOWN = "geheim-123"


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.database().replace("sora@", f"sora:{NEVER_SHOWN}@")


def checks(run: Run, **settings: str) -> dict[str, dict[str, Any]]:
    done = run("doctor", "--json", **settings)
    assert NEVER_SHOWN not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_every_command_works_there_and_nothing_is_kept_in_a_file(run: Run, url: str, tmp_path: Path) -> None:
    made = run("create", "a boat", "--wait", "--json", LEDGER_URL=url)
    assert made.returncode == 0, made.stderr
    task_id = json.loads(made.stdout)["task_id"]
    (tmp_path / "films.jsonl").write_text('{"prompt": "a fox", "name": "fox"}\n')
    for words, said in (
        (("list",), task_id),
        (("get", task_id), "succeeded"),
        (("download", task_id), ".mp4"),
        (("usage",), "1.25"),
        (("gateway",), "sandbox"),
        (("batch", "films.jsonl"), "task_"),
        (("list",), "2 videos"),
    ):
        done = run(*words, LEDGER_URL=url)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout + done.stderr
    assert run("settle", "req_1", "--none", LEDGER_URL=url).returncode == 3
    refused = run("ledger", "new", "--yes", LEDGER_URL=url)
    assert refused.returncode == 2
    assert "The ledger is in PostgreSQL (SORA_LEDGER_URL)" in refused.stderr
    assert not (tmp_path / "home" / "ledger.sqlite3").exists()


def test_the_doctor_says_where_the_ledger_is_and_what_it_holds(run: Run, url: str, cluster: Cluster) -> None:
    place = f"database {url.rpartition('/')[2]} at 127.0.0.1:{cluster.port}"
    found = checks(run, LEDGER_URL=url)["ledger"]
    assert found["verdict"] == "ok"
    assert found["message"].startswith("PostgreSQL ")
    assert found["message"].endswith(f"{place} (its tables are made at the first video)")
    run("create", "a boat", LEDGER_URL=url)
    run("create", "a fox")
    seen = checks(run, LEDGER_URL=url)
    assert seen["ledger"]["message"].endswith(f"{place}; its schema has version 1, and it holds 1 request")
    assert seen["spending"]["message"].startswith("relative cost 1.25 in the last 24 hours")
    assert "holds 1 request and is not used" in seen["ledger in SORA_HOME"]["message"]
    assert run("ledger", "copy", "--yes", LEDGER_URL=cluster.database()).returncode == 0
    assert "was copied to PostgreSQL" in checks(run)["ledger"]["message"]
    assert "ledger in SORA_HOME" not in checks(run, LEDGER_URL=url)


def test_the_doctor_says_why_a_database_cannot_keep_it(run: Run, url: str, cluster: Cluster) -> None:
    name = database_name(url)
    cluster.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    cluster.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    cluster.sql("CREATE ROLE guest LOGIN")
    base = url.removesuffix(name)
    for address, words in (
        (url, "it is read-only"),
        (f"{base}latin", "its encoding is LATIN1"),
        (f"{base}not_there", "at 127.0.0.1"),
        (f"{base}postgres".replace("sora:", "guest:"), "its user may not write there"),
        (f"postgresql://sora:{NEVER_SHOWN}@127.0.0.1:9/{name}", "it cannot be reached"),
    ):
        found = checks(run, LEDGER_URL=address)["ledger"]
        assert found["verdict"] == "wrong"
        assert words in found["message"]
        assert found["next_step"]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (f"mysql://sora:{NEVER_SHOWN}@db.example/x", 2),
        (f"postgresql://sora:{NEVER_SHOWN}%zz@db.example/x", 2),
        (f"postgresql://sora:{NEVER_SHOWN}@ss@db.example/x", 2),
        (f"postgresql://sora:{NEVER_SHOWN} @db.example/x", 2),
        (f"postgresql://sora:{NEVER_SHOWN}@db.example:99999/x", 2),
        (f"postgresql://sora:{NEVER_SHOWN}@[::1/x", 2),
        (f"postgresql://sora:{NEVER_SHOWN}@db.example/x?sslmod=require", 3),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_and_not_repeated(run: Run, address: str, status: int) -> None:
    done = run("create", "a boat", LEDGER_URL=address)
    assert done.returncode == status
    assert "SORA_LEDGER_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert NEVER_SHOWN not in done.stderr + done.stdout
    report = run("doctor", LEDGER_URL=address)
    assert report.returncode == 3
    assert NEVER_SHOWN not in report.stderr + report.stdout
    assert "ledger.sqlite3" not in report.stdout  # which is not the one that is meant


def test_a_socket_and_a_query_are_addresses_too(run: Run, url: str, cluster: Cluster) -> None:
    name = database_name(url)
    by_socket = f"postgresql:///{name}?host={cluster.folder}&port={cluster.port}&user=sora&password={NEVER_SHOWN}"
    found = checks(run, LEDGER_URL=by_socket)["ledger"]
    assert found["verdict"] == "ok"
    assert f"database {name} at the socket in {cluster.folder}, port {cluster.port}" in found["message"]


@pytest.mark.parametrize("words", [("doctor",), ("list",), ("create", "x"), ("ledger", "copy", "--yes"), ()])
def test_without_the_extra_it_is_named(environment: dict[str, str], words: tuple[str, ...]) -> None:
    program = "import sys; sys.modules['psycopg'] = None; from sora_mcp.cli.commands import main; main()"
    environ = environment | {"SORA_LEDGER_URL": f"postgresql://sora:{NEVER_SHOWN}@db.example/x"}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, *words],
        check=False,
        capture_output=True,
        text=True,
        env=environ,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 3
    assert "extra `postgres`" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_address_keeps_paid_calls_from_the_wrong_ledger(run: Run) -> None:
    for name in ("LEDGER_URI", "POSTGRES_URL"):
        done = run("create", "a boat", **{name: f"postgresql://sora:{NEVER_SHOWN}@db.example/x"})
        assert done.returncode == 2
        assert "SORA_LEDGER_URL" in done.stderr
        assert NEVER_SHOWN not in done.stderr


def test_install_writes_no_password_and_says_what_is_missing(run: Run, url: str) -> None:
    for client in ("cursor", "claude-desktop"):
        done = run("install", client, "--dry-run", LEDGER_URL=url)
        assert NEVER_SHOWN not in done.stdout + done.stderr
        assert "SORA_LEDGER_URL is set here but is not written to any file" in done.stdout
