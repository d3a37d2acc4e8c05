"""`sora-mcp usage`: what was spent by day, operation and gateway."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from bench import Run

pytestmark = pytest.mark.slow


def test_what_was_spent_is_told_by_day_operation_and_gateway(run: Run, tmp_path: Path) -> None:
    task_id = json.loads(run("create", "a boat", "--width", "480", "--height", "480", "--json").stdout)["task_id"]
    run("get", task_id, "--wait")
    run("remix", task_id, "at night")
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as db:
        db.execute("UPDATE videos SET created_at = created_at - 3 * 86400 WHERE operation = 'remix'")
        db.commit()
    told = json.loads(run("usage", "--json").stdout)
    assert [(each["gateway"], each["videos"], each["costs"]) for each in told["gateways"]] == [
        ("sandbox", 2, [{"unit": "relative", "cost": 2.0}])
    ]
    assert [each["videos"] for each in told["days"]] == [1, 1]
    assert told["days"][0]["day"] > told["days"][1]["day"] > told["since"]
    assert [each["operation"] for each in told["operations"]] == ["remix", "simple_compose"]
    assert [each["videos"] for each in json.loads(run("usage", "--days", "3", "--json").stdout)["days"]] == [1]
    words = run("usage").stdout
    for line in ("OPERATION  VIDEOS  COST", "create          1  1 relative", "sandbox       2  2 relative"):
        assert line in words.splitlines()


def test_another_gateway_stands_apart(run: Run, tmp_path: Path) -> None:
    run("create", "a boat", "--width", "480", "--height", "480")
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as db:
        db.execute(
            "UPDATE videos SET address = 'https://gw.example.com', cost = NULL, estimate = 5000000, currency = 'USD'"
        )
        db.commit()
    run("create", "a boat", "--width", "480", "--height", "480")
    rows = [line.split() for line in run("usage").stdout.splitlines()]
    assert ["create", "sandbox", "1", "1", "relative"] in rows
    assert ["create", "gw.example.com", "1", "0.005", "USD"] in rows
    assert ["gw.example.com", "1", "0.005", "USD"] in rows


def test_before_the_first_video_and_for_another_owner_nothing_was_spent(run: Run) -> None:
    assert "Nothing was submitted since" in run("usage").stdout
    assert json.loads(run("usage", "--json").stdout)["days"] == []
    run("create", "a boat")
    assert "Nothing was submitted since" in run("usage", OWNER="zoe").stdout
    for days in ("0", "x"):
        assert run("usage", "--days", days).returncode == 2


def test_where_people_share_a_server_it_tells_what_each_spent(run: Run) -> None:
    for owner, prompt in (("ann", "one"), ("ann", "two"), ("ben", "three")):
        run("create", prompt, "--width", "480", "--height", "480", OWNER=owner)
    for told in (json.loads(run("usage", "--json", AUTH=auth).stdout) for auth in ("tokens", "")):
        assert [(each["owner"], each["videos"]) for each in told["owners"]] == [("ann", 2), ("ben", 1)]
        assert [each["videos"] for each in told["gateways"]] == [3]
    assert run("usage", AUTH="tokens").stdout.splitlines()[-2].split() == ["ann", "2", "2", "relative"]
    told = json.loads(run("usage", "--json", AUTH="tokens", OWNER="ben").stdout)
    assert "owners" not in told
    assert [each["videos"] for each in told["gateways"]] == [1]


def test_doctor_counts_for_everybody_where_people_share_a_server(run: Run) -> None:
    for owner in ("ann", "ben"):
        run("create", "one", "--width", "480", "--height", "480", OWNER=owner)
    told = run("doctor", AUTH="tokens", MAX_COST_PER_DAY="9").stdout
    assert "everybody: relative cost 2 in the last 24 hours (at most 9)" in told
    assert "everybody" not in run("doctor", OWNER="ann").stdout
    assert "SORA_MAX_COST_PER_OWNER has no effect without SORA_AUTH" in run("doctor", MAX_COST_PER_OWNER="2").stdout
