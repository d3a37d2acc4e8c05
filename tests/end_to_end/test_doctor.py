"""`sora-mcp doctor` with one thing wrong after the other, and settings that cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench import COMMAND, KEY, Run


@pytest.mark.parametrize(
    ("setting", "value"),
    [("MAX_RUNNING", "many"), ("LOG_LEVEL", "loud"), ("HOME", "${HOME}/sora"), ("IMAGE_DIRS", "/a:${HOME}/b")],
)
def test_the_doctor_names_a_setting_that_cannot_be_used_and_looks_on(run: Run, setting: str, value: str) -> None:
    done = run("doctor", "--json", **{setting: value})
    assert done.returncode == 3
    checks = json.loads(done.stdout)["checks"]
    wrong = [check["message"] for check in checks if check["verdict"] == "wrong"]
    assert len(wrong) == 1
    assert f"SORA_{setting}" in wrong[0]
    assert {"versions", "gateway"} <= {check["name"] for check in checks}


@pytest.mark.parametrize("value", ["${HOME}/sora", "$HOME/sora", "%USERPROFILE%\\sora", "~/${X}"])
@pytest.mark.parametrize("setting", ["HOME", "OUTPUT_DIR"])
def test_a_variable_that_was_not_expanded_never_names_a_folder(
    run: Run, tmp_path: Path, setting: str, value: str
) -> None:
    done = run("create", "a boat", **{setting: value})
    assert done.returncode == 2
    assert f"SORA_{setting} holds a variable that was not expanded: write out what it stands for." in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_asks_the_sandbox_as_it_asks_any_gateway(run: Run) -> None:
    checks = {check["name"]: check for check in json.loads(run("doctor", "--json").stdout)["checks"]}
    assert "nothing is charged" in checks["gateway"]["message"]
    assert checks["key"]["verdict"] == "ok"


def test_the_doctor_says_on_stderr_nothing_that_it_shows(run: Run) -> None:
    done = run("doctor", BASE_URL="http://127.0.0.1:9", API_KEY=KEY)
    assert done.returncode == 3
    assert "✗ gateway" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("pasted", [KEY, f"Bearer\t{KEY}"])
def test_the_doctor_shows_no_key_wherever_it_was_put(run: Run, tmp_path: Path, pasted: str) -> None:
    for words in ((), ("--json",)):
        done = run("doctor", *words, API_KEY=pasted, OUTPUT_DIR=str(tmp_path / KEY), OWNER=KEY)
        assert KEY not in done.stdout + done.stderr
        assert "[key]" in done.stdout


def test_the_doctor_shows_what_was_spent_beside_the_caps(run: Run) -> None:
    def check(**settings: str) -> dict[str, str]:
        checks = json.loads(run("doctor", "--json", **settings).stdout)["checks"]
        return next((check for check in checks if check["name"] == "spending"), {"message": ""})

    def spending(**settings: str) -> str:
        return check(**settings)["message"]

    assert spending() == ""  # there is no ledger yet
    run("create", "a boat", SANDBOX_SECONDS="600")
    run("create", "[fail] a boat", "--n-frames", "300")
    run("create", "[quota] a boat")
    assert spending() == "relative cost 3.75 in the last 24 hours, 2 videos under way or unknown"
    capped = spending(MAX_COST_PER_DAY="5", MAX_RUNNING="2")
    assert capped == "relative cost 3.75 in the last 24 hours (at most 5), 2 videos under way or unknown (at most 2)"
    reached = check(MAX_COST_PER_DAY="3", MAX_CALLS_PER_DAY="2", MAX_RUNNING="3")
    assert reached["verdict"] == "note"
    assert reached["next_step"] == (
        "Nothing more is submitted while SORA_MAX_COST_PER_DAY and SORA_MAX_CALLS_PER_DAY are reached."
    )
    assert (
        spending(BASE_URL="http://127.0.0.1:9", API_KEY=KEY)
        == "relative cost 0 in the last 24 hours, 0 videos under way or unknown"
    )


@pytest.mark.parametrize("setting", ["HOME", "OUTPUT_DIR"])
@pytest.mark.parametrize("folder", ["x" * 300, "loop/inside"], ids=["too long", "a link to itself"])
def test_the_doctor_looks_on_where_a_folder_cannot_be_looked_at(
    run: Run, tmp_path: Path, setting: str, folder: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = run("doctor", "--json", **{setting: str(tmp_path / folder)})
    wrong = [check for check in json.loads(done.stdout)["checks"] if check["verdict"] == "wrong"]
    assert [check["name"] for check in wrong] == ["home folder" if setting == "HOME" else "output folder"]
    assert f"SORA_{setting}" in wrong[0]["next_step"]


def test_the_doctor_sees_a_ledger_that_cannot_be_opened(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "ledger.sqlite3").symlink_to("ledger.sqlite3")
    done = run("doctor", "--json")
    assert done.returncode == 3
    assert any(check["name"] == "ledger" and check["verdict"] == "wrong" for check in json.loads(done.stdout)["checks"])


@pytest.mark.parametrize("words", ["create x --width 480 --height 480", "list", "get task_x", "doctor"])
def test_without_stderr_the_work_is_done_all_the_same(environment: dict[str, str], words: str) -> None:
    command = f"{sys.executable} -m sora_mcp {words} 2>&-"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, env=environment)  # noqa: S603, S607
    assert done.returncode == (3 if words.startswith("get") else 0)
    assert "Traceback" not in done.stdout


def test_the_doctor_says_nothing_good_of_a_ledger_that_cannot_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = run("doctor", "--json", HOME=str(tmp_path / "file"))
    names = {check["name"]: check["verdict"] for check in json.loads(done.stdout)["checks"]}
    assert names["home folder"] == "wrong"
    assert "ledger" not in names


@pytest.mark.parametrize("words", [("doctor",), ("list",), ("install", "cursor"), ("uninstall", "cursor")], ids=str)
def test_a_user_without_a_home_is_told_so(words: tuple[str, ...]) -> None:
    nobody: dict[str, Any] = {"user": 54321, "env": {"PATH": os.environ["PATH"], "SORA_BASE_URL": "sandbox"}}
    try:
        subprocess.run([sys.executable, "-c", "import click, sora_mcp"], check=True, capture_output=True, **nobody)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no user without a home can be had here, or Python is not theirs to run")
    done = subprocess.run([*COMMAND, *words], check=False, capture_output=True, text=True, **nobody)  # noqa: S603
    assert done.returncode == 2
    assert "Set HOME" in done.stderr
    assert "Traceback" not in done.stderr
