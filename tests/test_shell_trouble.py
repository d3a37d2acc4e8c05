"""How commands end at a shell when something is in the way: one sentence or one object, a code, never a traceback."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bench import COMMAND, KEY

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs a command in the test's own folder; `settings` by their names without SORA_."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environ = environment | {f"SORA_{name}": value for name, value in settings.items()}
        command = [*COMMAND, *arguments]
        return subprocess.run(  # noqa: S603
            command, check=False, capture_output=True, text=True, env=environ, cwd=tmp_path, timeout=60
        )

    return run


def assert_one_object(done: subprocess.CompletedProcess[str]) -> None:
    told = json.loads(done.stdout)
    assert told["error"]["message"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", "x", "--widht", "480"), 2),
        (("get",), 2),
        (("crate", "x"), 2),
        (("storyboard", "--actions", "beats.json"), 2),
        (("storyboard", "--action", "no time"), 2),
        (("view", "{task}", "--out", "nowhere/x.png"), 3),
        (("settle", "req_0"), 2),
        (("settle", "req_0", "--none"), 3),
        (("create", "x", "--style", "vivid"), 2),
    ],
    ids=str,
)
def test_with_json_every_error_is_one_object_on_stdout(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    (tmp_path / "beats.json").write_text("{ not json")
    if "{task}" in arguments:
        task_id = json.loads(run("create", "a boat", "--width", "480", "--height", "480", "--json").stdout)["task_id"]
        run("get", task_id, "--wait")
        arguments = tuple(word.replace("{task}", task_id) for word in arguments)
    done = run(*arguments, "--json")
    assert done.returncode == code, done.stdout
    assert_one_object(done)
    paid = arguments[0] in {"create", "storyboard"}
    assert json.loads(done.stdout).get("outcome") == ("not_submitted" if paid else None)


@pytest.mark.parametrize("command", [("list",), ("create", "x"), ("settle", "req_0", "--none")], ids=str)
@pytest.mark.parametrize("setting", [{"MAX_RUNNING": "many"}, {"BASE_URL": ""}], ids=str)
def test_with_json_a_bad_setting_is_one_object_too(run: Run, command: tuple[str, ...], setting: dict[str, str]) -> None:
    done = run(*command, "--json", **setting)
    assert done.returncode == 2
    assert_one_object(done)
    assert f"SORA_{next(iter(setting))}" in done.stdout


# --- interrupted ----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_wait_that_is_ended_by_a_signal_prints_its_object(run: Run, environment: dict[str, str], which: int) -> None:
    task_id = json.loads(run("create", "a boat", "--json", SANDBOX_SECONDS="60").stdout)["task_id"]
    command = [*COMMAND, "get", task_id, "--wait", "--json"]
    environ = environment | {"SORA_SANDBOX_SECONDS": "60", "SORA_LOG_LEVEL": "INFO"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stderr is not None
        while "status=200" not in process.stderr.readline():  # it waits from now on
            pass
        process.send_signal(which)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    told = json.loads(out)
    assert (told["task_id"], told["error"]["kind"]) == (task_id, "interrupted")


@pytest.mark.parametrize(
    "command",
    [
        ("sandbox", "--port", "0"),
        ("serve", "--transport", "streamable-http", "--port", "0"),
        ("demo", "--out", "demo"),
    ],
    ids=lambda words: str(words[0]),
)
def test_ctrl_c_ends_what_runs_for_long(environment: dict[str, str], tmp_path: Path, command: tuple[str, ...]) -> None:
    process = subprocess.Popen(  # noqa: S603
        [*COMMAND, *command], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        (process.stdout if command[0] == "demo" else process.stderr).readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted." in said
    assert "Traceback" not in said
    assert "Aborted" not in said


def test_ctrl_c_while_it_starts_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*COMMAND, "list"], check=False, capture_output=True, text=True, env=environ)  # noqa: S603
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# --- stdout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
@pytest.mark.parametrize("words", ["list", "list --json", "doctor", "--help", "create x --dry-run"])
def test_a_stdout_that_takes_nothing_is_said_in_one_line(environment: dict[str, str], where: str, words: str) -> None:
    if where == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    command = f"{sys.executable} -m sora_mcp {words} {where}"
    made = [*COMMAND, "create", "a boat"]
    subprocess.run(made, check=True, capture_output=True, env=environment)  # noqa: S603
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, env=environment)  # noqa: S603, S607
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "sora-mcp: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("words", "code"), [("create kite", 4), ("list", 3)])
def test_a_paid_call_whose_result_nobody_saw_is_no_refusal(environment: dict[str, str], words: str, code: int) -> None:
    subprocess.run([*COMMAND, "create", "a boat"], check=True, capture_output=True, env=environment)  # noqa: S603
    for where in (">/dev/full", "| true; exit ${PIPESTATUS[0]}"):
        command = f"{sys.executable} -m sora_mcp {words} {where}"
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=environment)  # noqa: S603, S607
        assert done.returncode == code


def shown_at_a_terminal(environment: dict[str, str], *arguments: str, columns: int) -> list[str]:
    terminal, end = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "24"}
    done = subprocess.Popen([*COMMAND, *arguments], stdout=end, env=environment | size)  # noqa: S603
    os.close(end)
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        shown += chunk
    with done:
        assert done.wait(timeout=60) == 0
    os.close(terminal)
    return shown.decode().splitlines()


@pytest.mark.parametrize(("columns", "prompt"), [(40, "a boat"), (40, "船" * 40), (100, "船" * 40), (100, "🐙" * 60)])
def test_a_list_fits_a_terminal_and_shows_the_state(
    run: Run, environment: dict[str, str], columns: int, prompt: str
) -> None:
    task_id = json.loads(run("create", prompt, "--json").stdout)["task_id"]
    run("get", task_id, "--wait")
    [line] = shown_at_a_terminal(environment, "list", columns=columns)
    assert "succeeded" in line
    assert task_id[:20] in line
    wide = sum(character in "船🐙" for character in line)
    assert len(line) + wide <= columns
    assert wide or columns == 40


# --- what lies around -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [("sandbox",), ("serve", "--transport", "streamable-http")], ids=lambda w: str(w[0])
)
def test_a_port_that_is_taken_is_said(run: Run, command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(*command, "--port", str(port))
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "edit",
    [
        "body = 'not json'",
        "body = '[]'",
        "body = '{\"prompt\": 7}'",
        "sources = '{'",
        "state = 'odd'",
        "created_at = 'yesterday'",
        "created_at = 1e300",
        "cost = 'much'",
        "updated_at = 'x'",
        "not_before = 'x'",
        'body = \'{"n_frames": "many"}\'',
    ],
)
@pytest.mark.parametrize("words", [(), ("--json",)], ids=["", "json"])
def test_a_ledger_that_was_edited_by_hand_causes_no_traceback(
    run: Run, tmp_path: Path, edit: str, words: tuple[str, ...]
) -> None:
    task_id = json.loads(run("create", "a boat", "--json").stdout)["task_id"]
    run("get", task_id, "--wait")
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as db:
        db.execute(f"UPDATE videos SET {edit}")  # noqa: S608
        db.commit()
    for command in (("list",), ("get", task_id), ("doctor",)):
        done = run(*command, *words)
        assert "Traceback" not in done.stderr
        assert done.returncode == 3
        assert "is damaged" in (done.stdout if words or command == ("doctor",) else done.stderr)


def test_a_ledger_without_its_salt_hides_nothing_and_pays_for_nothing(run: Run, tmp_path: Path) -> None:
    run("create", "a boat")
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as db:
        db.execute("DELETE FROM salt")
        db.commit()
    for words in (("list",), ("create", "a boat"), ("doctor",)):
        done = run(*words)
        assert done.returncode == 3
        assert "it is damaged" in done.stdout + done.stderr
    assert len(list((tmp_path / "home" / "sandbox" / "tasks").glob("*.json"))) == 1


def test_a_task_that_the_gateway_forgot_is_given_up_by_hand(run: Run, tmp_path: Path) -> None:
    made = json.loads(run("create", "a boat", "--json").stdout)
    still_there = run("settle", made["request_id"], "--none")
    assert (still_there.returncode, "nothing to settle" in still_there.stderr) == (3, True)
    (tmp_path / "home" / "sandbox" / "tasks" / f"{made['task_id']}.json").unlink()
    advice = f"Mind this: you can run: sora-mcp settle {made['request_id']} --none"
    assert advice in run("get", made["task_id"]).stderr
    assert run("settle", made["request_id"], "--none").returncode == 0
    assert "failed" in run("list").stdout
    assert "forgotten" in run("get", made["task_id"]).stdout


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [("MAX_RUNNING", "many"), ("LOG_LEVEL", "loud"), ("HOME", "${HOME}/sora"), ("IMAGE_DIRS", "/a:${HOME}/b")],
)
def test_the_doctor_names_a_setting_that_cannot_be_used_and_looks_on(run: Run, setting: str, value: str) -> None:
    done = run("doctor", "--json", **{setting: value})
    assert done.returncode == 3
    checks = json.loads(done.stdout)["checks"]
    wrong = [check["found"] for check in checks if check["verdict"] == "wrong"]
    assert len(wrong) == 1
    assert f"SORA_{setting}" in wrong[0]
    assert {"versions", "gateway"} <= {check["name"] for check in checks}


@pytest.mark.parametrize("setting", ["HOME", "OUTPUT_DIR"])
def test_a_variable_that_was_not_expanded_never_names_a_folder(run: Run, tmp_path: Path, setting: str) -> None:
    done = run("create", "a boat", **{setting: "${HOME}/sora"})
    assert done.returncode == 2
    assert f"SORA_{setting}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_says_on_stderr_nothing_that_it_shows(run: Run) -> None:
    done = run("doctor", BASE_URL="http://127.0.0.1:9", API_KEY=KEY)
    assert done.returncode == 3
    assert "✗ gateway" in done.stdout
    assert done.stderr == ""


def test_the_doctor_shows_no_key_wherever_it_was_put(run: Run, tmp_path: Path) -> None:
    for words in ((), ("--json",)):
        done = run("doctor", *words, API_KEY=KEY, OUTPUT_DIR=str(tmp_path / KEY), OWNER=KEY)
        assert KEY not in done.stdout + done.stderr
        assert "[key]" in done.stdout


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
