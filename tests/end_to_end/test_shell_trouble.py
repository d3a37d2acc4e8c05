"""How commands end at a shell when something is in the way: one sentence or one object, a code, never a traceback."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import pytest
from bench import ACCEPTED, COMMAND, Run, killed_on_failure
from bench import environment as settings_of
from fault_gateway import CREATE, FaultGateway, Hold
from terminals import read_terminal
from warm import warm_command


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


def test_beats_are_given_in_one_way_or_the_other(run: Run, tmp_path: Path) -> None:
    (tmp_path / "beats.json").write_text('[{"time": 0, "description": "a door"}]')
    done = run("storyboard", "--actions", "beats.json", "--action", "0s=another", "--dry-run")
    assert done.returncode == 2
    assert "not both" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "p", "--image", "a" * 300),
        ("create", "p", "--image", "nosuch.png"),
        ("blend", "a" * 300, "task_y"),
        ("create", "p", "--image", "http://[::1"),
        ("create", "p", "--image", "http://x:99999/y.png"),
        ("create", "p", "--image", "https://?"),
    ],
    ids=lambda words: str(words)[:40],
)
def test_a_source_that_is_none_is_refused_before_anything_is_sent(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = run(*arguments, "--json")
    assert done.returncode in {2, 3}
    assert_one_object(done)
    assert json.loads(done.stdout)["outcome"] == "not_submitted"
    assert not (tmp_path / "home" / "sandbox" / "tasks").exists()


def test_however_much_is_wrong_a_few_things_are_named(run: Run, tmp_path: Path) -> None:
    for beat in ({"time": 0, "description": "x"}, {"time": "never"}):
        (tmp_path / "beats.json").write_text(json.dumps([beat] * 500))
        done = run("storyboard", "--actions", "beats.json")
        assert done.returncode == 2
        assert len(done.stderr) < 4000
        assert "more problems" in done.stderr


# --- interrupted ----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_wait_that_is_ended_by_a_signal_prints_its_object(run: Run, environment: dict[str, str], which: int) -> None:
    task_id = json.loads(run("create", "a boat", "--json", SANDBOX_SECONDS="60").stdout)["task_id"]
    command = [*COMMAND, "get", task_id, "--wait", "--json"]
    environ = environment | {"SORA_SANDBOX_SECONDS": "60", "SORA_LOG_LEVEL": "INFO"}
    with (
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,  # noqa: S603
        killed_on_failure(process),
    ):
        assert process.stderr is not None
        assert any("status=200" in line for line in process.stderr)  # it waits from now on
        process.send_signal(which)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    told = json.loads(out)
    assert (told["task_id"], told["error"]["kind"]) == (task_id, "interrupted")


def test_a_wait_for_a_list_that_is_ended_says_how_to_come_back(run: Run, environment: dict[str, str]) -> None:
    run("create", "a boat", SANDBOX_SECONDS="60")
    command = [*COMMAND, "list", "--query", "a boat", "--wait"]
    environ = environment | {"SORA_SANDBOX_SECONDS": "60", "SORA_LOG_LEVEL": "INFO"}
    with (
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,  # noqa: S603
        killed_on_failure(process),
    ):
        assert process.stderr is not None
        assert any("status=200" in line for line in process.stderr)  # it waits from now on
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "they go on. Come back with: sora-mcp list --query 'a boat' --wait" in said


@pytest.mark.anyio
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
async def test_a_create_that_is_ended_while_it_is_sent_says_what_became_of_it(
    gateway: FaultGateway, tmp_path: Path, which: signal.Signals
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
    command = [*COMMAND, "create", "a boat", "--json"]
    with anyio.fail_after(60):
        async with await anyio.open_process(command, env=settings_of(tmp_path, gateway)) as process:
            await hold.reached.wait()
            process.send_signal(which)
            hold.release.set()
            assert process.stdout is not None
            told = json.loads(b"".join([chunk async for chunk in process.stdout]))
            assert await process.wait() == 130
    assert (told["outcome"], told["task_id"], told["error"]["kind"]) == ("accepted", "task_new", "interrupted")
    assert len(gateway.creates()) == 1


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
    with process, killed_on_failure(process):
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
    made = [*warm_command(), "create", "a boat"]
    subprocess.run(made, check=True, capture_output=True, env=environment)  # noqa: S603
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, env=environment)  # noqa: S603, S607
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "sora-mcp: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("words", "code"), [("create kite", 4), ("create kite --dry-run", 3), ("list", 3)])
def test_a_paid_call_whose_result_nobody_saw_is_no_refusal(environment: dict[str, str], words: str, code: int) -> None:
    subprocess.run([*warm_command(), "create", "a boat"], check=True, capture_output=True, env=environment)  # noqa: S603
    for where in (">/dev/full", "| true; exit ${PIPESTATUS[0]}"):
        command = f"{sys.executable} -m sora_mcp {words} {where}"
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=environment)  # noqa: S603, S607
        assert done.returncode == code
        assert (b"submitted" in done.stderr) == (code == 4 and where == ">/dev/full")


def shown_at_a_terminal(environment: dict[str, str], *arguments: str, columns: int) -> list[str]:
    terminal, end = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "24"}
    done = subprocess.Popen([*COMMAND, *arguments], stdout=end, env=environment | size)  # noqa: S603
    os.close(end)
    shown = read_terminal(terminal)
    with done, killed_on_failure(done):
        assert done.wait(timeout=60) == 0
    os.close(terminal)
    return shown.decode().splitlines()


@pytest.mark.parametrize(("columns", "prompt"), [(40, "a boat"), (40, "船" * 40), (100, "船" * 40), (100, "🐙" * 60)])
def test_a_list_fits_a_terminal_and_shows_the_state(
    run: Run, environment: dict[str, str], columns: int, prompt: str
) -> None:
    task_id = json.loads(run("create", prompt, "--json").stdout)["task_id"]
    run("get", task_id, "--wait")
    lines = shown_at_a_terminal(environment, "list", columns=columns)
    assert any("succeeded" in line for line in lines)
    assert task_id in [line.split()[0] for line in lines]
    for line in lines:
        assert len(line) + sum(character in "船🐙" for character in line) <= columns
    assert any(character in "船🐙a" for character in lines[-1])


@pytest.mark.parametrize("columns", [60, 100])
def test_a_list_at_a_terminal_is_a_table_with_the_local_time(
    run: Run, environment: dict[str, str], columns: int
) -> None:
    environment["TZ"] = "Asia/Tokyo"
    run("create", "a boat", "--width", "480", "--height", "854")
    told = json.loads(run("list", "--json").stdout)["videos"][0]
    shown = shown_at_a_terminal(environment, "list", columns=columns)
    headers, cells = (" ".join(part).split() for part in (shown[: len(shown) // 2], shown[len(shown) // 2 :]))
    assert headers == ["ID", "STATE", "CREATED", "OPERATION", "SIZE", "LEN", "COST", "PROMPT"]
    hour = datetime.fromisoformat(told["created_at"]).astimezone(ZoneInfo("Asia/Tokyo"))
    assert cells == [told["task_id"], cells[1], f"{hour:%H:%M}", "create", "480x854", "5s", "1.25", "a", "boat"]
    assert max(map(len, shown)) <= columns


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


@pytest.fixture(scope="module")
def with_a_video(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which a video has succeeded, to be copied; the video's id."""
    folder = tmp_path_factory.mktemp("with_a_video")
    create = [*warm_command(), "create", "a boat", "--width", "480", "--height", "480", "--wait", "--json"]
    done = subprocess.run(create, check=True, capture_output=True, text=True, env=settings_of(folder))  # noqa: S603
    return folder, json.loads(done.stdout)["task_id"]


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
        "body = '{\"n_frames\": 1e300}'",
        "body = '{\"width\": true}'",
        "sources = '[7]'",
        "cost = -1",
    ],
)
@pytest.mark.parametrize("words", [(), ("--json",)], ids=["", "json"])
def test_a_ledger_that_was_edited_by_hand_causes_no_traceback(
    run: Run, with_a_video: tuple[Path, str], tmp_path: Path, edit: str, words: tuple[str, ...]
) -> None:
    folder, task_id = with_a_video
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as db:
        db.execute(f"UPDATE videos SET {edit}")  # noqa: S608
        db.commit()
    for command in (("list",), ("get", task_id), ("doctor",)):
        done = run(*command, *words)
        assert "Traceback" not in done.stderr
        assert done.returncode == (0 if command == ("list",) else 3)
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
    made = json.loads(run("create", "a boat", "--json", SANDBOX_SECONDS="600").stdout)
    still_there = run("settle", made["request_id"], "--none")
    assert (still_there.returncode, "nothing to settle" in still_there.stderr) == (3, True)
    (tmp_path / "home" / "sandbox" / "tasks" / f"{made['task_id']}.json").unlink()
    too_early = run("settle", made["request_id"], "--none")
    assert (too_early.returncode, "may not know its task yet" in too_early.stderr) == (3, True)
    assert "does not know it yet" in run("get", made["task_id"]).stderr
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as db:
        db.execute("UPDATE videos SET created_at = created_at - 900, not_before = NULL")
        db.commit()
    advice = f"Give it up with `sora-mcp settle {made['request_id']} --none`"
    assert advice in run("get", made["task_id"]).stderr
    assert run("settle", made["request_id"], "--none").returncode == 0
    assert "failed" in run("list").stdout
    assert "forgotten" in run("get", made["task_id"]).stdout
