"""The video commands, as a person at a shell meets them: real processes, real terminals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench import COMMAND, killed_on_failure
from PIL import Image
from terminals import read_terminal
from warm import warm_command

from sora_mcp import media

Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(environment: dict[str, str], tmp_path: Path) -> Shell:
    def run(*arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603
            [*warm_command(), *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment | settings,
            input=stdin,
            timeout=60,
        )

    return run


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object on stdout."""
    return dict(json.loads(done.stdout))


def made(shell: Shell, *arguments: str) -> str:
    return str(told(shell("create", "a paper boat", "--width", "480", "--json", *arguments))["task_id"])


def test_a_video_is_made_waited_for_viewed_and_saved(shell: Shell, tmp_path: Path) -> None:
    task_id = made(shell)
    waited = shell("get", task_id, "--wait")
    assert waited.returncode == 0
    assert f"{task_id} has succeeded" in waited.stdout
    assert "file://" in waited.stdout
    assert waited.stderr == ""
    assert shell("view", task_id, "--out", "sheet.png").returncode == 0
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert shell("view", task_id, "--out", "sheet.JPG").returncode == 0
    assert (tmp_path / "sheet.JPG").read_bytes().startswith(b"\xff\xd8\xff")
    saved = told(shell("download", task_id, "--json"))
    assert media.probe(Path(saved["path"])).n_frames == 150
    assert task_id in shell("list").stdout


def test_commands_that_only_look_in_bring_a_video_to_its_end(shell: Shell) -> None:
    task_id = made(shell)
    looks = (told(shell("get", task_id, "--json"))["state"] for _ in range(6))  # each draws for 5 s at most
    assert "succeeded" in looks


def test_beats_and_files_of_beats_say_the_same(shell: Shell, tmp_path: Path) -> None:
    typed = shell("storyboard", "--action", "0s=a door", "--action", "2.5s=it opens", "--dry-run", "--json")
    beats = [{"time": 0, "description": "a door"}, {"time": 75, "description": "it opens"}]
    (tmp_path / "beats.json").write_text(json.dumps({"actions": beats}))
    from_file = shell("storyboard", "--actions", "beats.json", "--dry-run", "--json")
    piped = shell("storyboard", "--actions", "-", "--dry-run", "--json", stdin=json.dumps(beats))
    assert told(typed)["body"] == told(from_file)["body"] == told(piped)["body"]
    assert told(typed)["body"]["actions"] == beats


def test_beats_near_to_each_other_are_written_with_their_unit(shell: Shell) -> None:
    done = shell("storyboard", "--action", "0s=a door", "--action", "0.2s=it opens", "--dry-run", "--json")
    assert [action["time"] for action in told(done)["body"]["actions"]] == [0, 6]


def test_an_image_named_at_the_shell_is_uploaded(shell: Shell, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (200, 30, 30)).save(tmp_path / "ball.png")
    done = shell("create", "a ball", "--image", "ball.png", "--json")
    assert (done.returncode, told(done)["outcome"]) == (0, "accepted")


def test_a_relative_image_is_the_one_where_the_person_stands(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    for folder, colour in ((tmp_path, (200, 30, 30)), (tmp_path / "allowed", (30, 30, 200))):
        Image.new("RGB", (32, 32), colour).save(folder / "ball.png")
    assert shell("create", "a ball", "--image", "ball.png", SORA_IMAGE_DIRS=str(tmp_path / "allowed")).returncode == 0
    (uploaded,) = (tmp_path / "home" / "sandbox" / "uploads").iterdir()
    assert uploaded.read_bytes() == (tmp_path / "ball.png").read_bytes()


def test_two_videos_are_blended(shell: Shell) -> None:
    one, other = made(shell), made(shell)
    for task_id in (one, other):
        assert shell("get", task_id, "--wait").returncode == 0
    assert told(shell("blend", one, other, "--json"))["sources"] == [one, other]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create",), 2, "prompt"),
        (("create", "x", "--widht", "480"), 2, "--width"),
        (("create", "x", "--width", "481"), 2, "480x480"),
        (("create", "x", "--seconds", "7"), 2, "no video here is 7 s long; allowed: 5, 10"),
        (("create", "x", "--seconds", "soon"), 2, "not a number of seconds"),
        (("create", "x", "--seconds", "5", "--n-frames", "150"), 2, "not both"),
        (("create", "x", "--size", "16:9"), 2, "width 854, height 480"),
        (("create", "x", "--size", "480x480", "--width", "480"), 2, "not both"),
        (("list", "-wait"), 2, "did you mean '--wait'?"),
        (("a paper boat",), 2, "sora-mcp create 'a paper boat'"),
        (("ledger", "nwe"), 2, "did you mean new?"),
        (("help", "crate"), 2, "did you mean create?"),
        (("create", "x", "--duration=60"), 2, "is not offered here"),
        (("create", "x", "--duration", "5"), 2, "duration 5 is --n-frames 150."),
        (("create", "x", "--beats", "x"), 2, "use `sora-mcp storyboard` with --action for beats."),
        (("create", "x", "--wait-seconds", "5"), 2, "use `sora-mcp get` with --wait-seconds to wait."),
        (("create", "x", "--video", "task_x"), 2, "use `sora-mcp remix` with SOURCE to change a finished video."),
        (("create", "x", "--aspect-ratio", "1:1"), 2, "use --width and --height, in pixels"),
        (("create", "x", "--picture", "x.png"), 2, "--picture: unknown; use --image."),
        (("storyboard", "x", "--video", "task_x"), 2, "--video: unknown; use --inpaint-items."),
        (("view", "task_x", "--beats"), 2, 'use --at "beats".'),
        (("create", "x", "--aspect-ratio", "9:16"), 2, "is --width 480, --height 854 or "),
        (("get", "--id", "task_1"), 2, "id task_1 is TASK_ID task_1."),
        (("remix", "task_1", "x", "--loop"), 2, "this API has no equivalent"),
        (("cancel", "task_1"), 2, "cannot be cancelled: it runs to its end and is paid for"),
        (("retry", "task_1"), 2, "what became of the earlier call"),
        (("create", "x", "--style", "vivid"), 2, "natural"),
        (("create", "x", "--image", "nowhere.png"), 2, "nothing was submitted"),
        (("storyboard", "--action", "a door"), 2, "does not begin with a time"),
        (("storyboard", "--action", "2.5=a door"), 2, 'seconds, then what is seen: 2.5s="it opens"'),
        (("storyboard", "--action", "0=a", "--action", "3=b"), 2, "0, 90"),
        (("storyboard", "--action", "0s=a", "--action", "3=b", "--dry-run"), 2, '"0s", "3s"'),
        (("create", "x" * 10_001), 2, "SORA_MAX_PROMPT_LENGTH"),
        (("storyboard", "--actions", "nowhere.json"), 2, "There is no file nowhere.json.\nNothing was submitted"),
        (("remix", "task_unknown", "x"), 3, "task_unknown"),
        (("get", "task_unknown"), 3, "task_unknown"),
        (("get", "../x"), 2, "is not an id"),
        (("create", "[quota] x"), 3, "quota_not_enough"),
        (("create", "[lost] x"), 4, "may have been created"),
    ],
    ids=str,
)
def test_what_goes_wrong_is_said_on_stderr_with_its_exit_code(
    shell: Shell, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = shell(*arguments)
    assert done.returncode == code, done.stderr
    assert words.lower() in done.stderr.lower()
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[\n  {"time": 0,\n', "line 3"),
        ('[\n  {"time": 0, "description": "a"},\n  "b"\n]', "line 3, actions[1]"),
        ('{"beats": []}', "no list of actions"),
        ('[\n{"time": 0, "description": "a"},\n\n{"time": 9, "descriptoin": "a"}]', "line 4, actions[1].descriptoin"),
        ('{\n "actions": [\n {"time": 0, "descriptoin": "a"}]}', "line 3, actions[0].descriptoin"),
        ('{"actions" :\n [\n 7]}', "line 3, actions[0]"),
        ('{"actions": [], "n_frames": 300}', "holds more than actions (n_frames)"),
        ("[1" + "0" * 5000 + "]", "thousands of digits"),
        ('[{"time": 400, "description": "a"}]', "actions[0].time"),
        ('[{"time": 0, "description": "a"},\n {"time": 2.5, "description": "b"}]', "line 2, actions[1].time: is 2.5"),
        ('[{"time": 0, "description": "a"}, {"time": 3, "description": "b"}]', "0, 90"),
    ],
    ids=str,
)
def test_a_file_that_is_not_the_documented_form_is_refused_by_line_and_field(
    shell: Shell, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "beats.json").write_text(content)
    done = shell("storyboard", "--actions", "beats.json")
    assert done.returncode == 2
    assert words in done.stderr


def test_a_file_with_a_byte_order_mark_is_read(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "beats.json").write_text('\ufeff[{"time": 0, "description": "a door"}]', encoding="utf-8")
    assert shell("storyboard", "--actions", "beats.json", "--dry-run").returncode == 0


@pytest.mark.parametrize("arguments", [("create", ""), ("get", "task_unknown"), ("create", "[lost] x")], ids=str)
def test_with_json_an_error_is_an_object_on_stdout_and_nothing_else(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell(*arguments, "--json")
    assert told(done)["error"]["message"]
    assert done.stderr == ""


@pytest.mark.parametrize(("prompt", "code"), [("[fail] x", 3), ("[blocked] x", 3)])
def test_a_video_that_ends_badly_ends_the_wait_with_an_exit_code(shell: Shell, prompt: str, code: int) -> None:
    task_id = told(shell("create", prompt, "--json"))["task_id"]
    assert shell("get", task_id, "--wait").returncode == code


def test_a_reader_that_stops_early_causes_no_noise(environment: dict[str, str], shell: Shell) -> None:
    made(shell)
    command = f"{sys.executable} -m sora_mcp list | head -c 1"
    done = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True, env=environment)  # noqa: S603, S607
    assert len(done.stdout) == 1
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def at_a_terminal(environment: dict[str, str], *arguments: str, columns: int) -> tuple[subprocess.Popen[str], int]:
    """A command whose stderr is a terminal, and that terminal."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [*COMMAND, *arguments]
    size = {"COLUMNS": str(columns)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, text=True, env=environment | size)  # noqa: S603
    os.close(end)
    return process, terminal


def read_until(terminal: int, words: str = "") -> str:
    """What a terminal shows, until `words` appear or the program is gone."""
    return read_terminal(terminal, words.encode()).decode(errors="replace")


@pytest.mark.parametrize("columns", [40, 100])
def test_a_wait_at_a_terminal_shows_a_bar_that_fits(shell: Shell, environment: dict[str, str], columns: int) -> None:
    environment["SORA_SANDBOX_SECONDS"] = "4"
    process, terminal = at_a_terminal(environment, "get", made(shell), "--wait", columns=columns)
    shown = read_until(terminal)
    with process, killed_on_failure(process):
        assert process.wait(timeout=60) == 0
    os.close(terminal)
    drawn = [line for line in shown.replace("\x1b[K", "").split("\r") if line]
    assert any("running" in line and "░" in line for line in drawn)
    assert any(re.search(r" [1-9]\d% running", line) for line in drawn)  # of the video, not of the time to wait
    assert max(map(len, drawn)) < columns


def test_ctrl_c_while_waiting_leaves_the_video_alone_and_says_how_to_come_back(
    shell: Shell, environment: dict[str, str]
) -> None:
    environment["SORA_SANDBOX_SECONDS"] = "300"
    task_id = made(shell)
    process, terminal = at_a_terminal(environment, "get", task_id, "--wait", columns=100)
    read_until(terminal, "queued")
    process.send_signal(signal.SIGINT)
    shown = read_until(terminal)
    with process, killed_on_failure(process):
        assert process.wait(timeout=60) == 130
    os.close(terminal)
    assert f"sora-mcp get {task_id} --wait" in shown
    assert "Traceback" not in shown
    assert told(shell("get", task_id, "--json"))["state"] in {"queued", "running"}


def test_a_data_folder_that_cannot_be_used_is_said_and_nothing_is_sent(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = shell("create", "x", SORA_HOME=str(tmp_path / "file" / "home"))
    assert done.returncode == 3
    assert "Nothing was submitted" in done.stderr


def test_an_unknown_outcome_is_settled_by_hand(shell: Shell, tmp_path: Path) -> None:
    lost = str(told(shell("create", "[lost] x", "--json"))["request_id"])
    (stored,) = (tmp_path / "home" / "sandbox" / "tasks").iterdir()
    assert shell("settle", lost, "--task", "task_other").returncode == 3
    assert shell("settle", lost).returncode == 2
    settled = shell("settle", lost, "--task", stored.stem, "--json")
    assert (settled.returncode, told(settled)["task_id"]) == (0, stored.stem)
    assert told(shell("get", lost, "--wait", "--json"))["state"] == "succeeded"
    again = shell("settle", lost, "--none")
    assert (again.returncode, f"{lost} has succeeded, so there is nothing to settle." in again.stderr) == (3, True)
    nobody = shell("settle", "req_0123456789abcdef01234567", "--none")
    assert (nobody.returncode, "No request req_0123456789abcdef01234567" in nobody.stderr) == (3, True)


def test_a_task_that_another_request_made_settles_nothing(shell: Shell) -> None:
    lost = str(told(shell("create", "[lost] x", "--json"))["request_id"])
    done = shell("settle", lost, "--task", made(shell))
    assert (done.returncode, "belongs to another request" in done.stderr) == (3, True)


def test_doctor_finds_nothing_wrong_in_the_sandbox(shell: Shell) -> None:
    made(shell)
    done = shell("doctor", "--json")
    assert done.returncode == 0
    found = {check["name"]: check for check in told(done)["checks"]}
    assert {check["verdict"] for check in found.values()} == {"ok"}
    assert "holds 1 request" in found["ledger"]["message"]
    assert told(done)["settings"]["SORA_BASE_URL"] == {"value": "sandbox", "from": "environment"}
    assert told(done)["settings"]["SORA_LOG_LEVEL"] == {"value": "WARNING", "from": "default"}


@pytest.mark.parametrize(
    ("settings", "name", "words"),
    [
        ({"SORA_BASE_URL": ""}, "gateway", "SORA_BASE_URL"),
        ({"SORA_BASE_URL": "https://x.apifox.cn"}, "gateway", "documentation"),
        ({"SORA_BASE_URL": "http://127.0.0.1:9"}, "gateway", "SORA_API_KEY"),
        ({"SORA_BASE_URL": "http://127.0.0.1:9", "SORA_API_KEY": "sk-canary"}, "gateway", "nothing listens"),
        ({"SORA_OUTPUT_DIR": "/proc/videos"}, "output folder", "cannot be written"),
    ],
    ids=str,
)
def test_doctor_names_what_is_wrong_and_what_to_do(
    shell: Shell, settings: dict[str, str], name: str, words: str
) -> None:
    done = shell("doctor", "--json", **settings)
    assert done.returncode == 3
    wrong = [check for check in told(done)["checks"] if check["verdict"] == "wrong"]
    assert [check["name"] for check in wrong] == [name]
    assert words in wrong[0]["message"]
    assert wrong[0]["next_step"]
    assert "canary" not in done.stdout + done.stderr + shell("doctor", **settings).stdout


def test_doctor_counts_unsettled_outcomes(shell: Shell) -> None:
    shell("create", "[lost] x")
    done = shell("doctor")
    assert done.returncode == 0
    assert "1 unknown" in done.stdout


def test_doctor_says_that_a_ledger_is_damaged(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "ledger.sqlite3").write_bytes(b"not a database" * 100)
    done = shell("doctor")
    assert done.returncode == 3
    assert "it is not a ledger" in done.stdout


# --- the list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--limit", "51"), ("--limit", "ten"), ("--cursor", "x")], ids=str)
def test_a_list_with_an_argument_that_is_wrong_says_which(shell: Shell, arguments: tuple[str, str]) -> None:
    done = shell("list", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[0].removeprefix("--") in done.stderr


def test_a_list_of_one_state_holds_no_other(shell: Shell) -> None:
    task_id = made(shell)
    assert shell("get", task_id, "--wait").returncode == 0
    assert shell("list", "--status", "succeeded").stdout.startswith(task_id)
    assert task_id not in shell("list", "--status", "failed").stdout


def test_a_list_before_the_first_video_is_empty(shell: Shell) -> None:
    done = shell("list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No videos at sandbox yet.\n")


def test_a_list_of_another_owner_is_empty(shell: Shell) -> None:
    task_id = made(shell)
    assert shell("get", task_id, "--wait").returncode == 0
    assert task_id not in shell("list", SORA_OWNER="zoe").stdout
    assert task_id in shell("list").stdout


def test_a_folder_that_is_called_as_a_tool_is_shown_as_it_is(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "get_video"
    task_id = made(shell)
    shell("get", task_id, "--wait")
    saved = shell("download", task_id, SORA_OUTPUT_DIR=str(folder)).stdout
    assert Path(saved.removeprefix("Saved as ").partition(" (")[0]).is_file()
    again = told(shell("download", task_id, "--json", SORA_OUTPUT_DIR=str(folder)))
    assert Path(again["path"]).is_file()
    assert Path(again["path"]).parent == folder


def test_what_a_create_says_next_can_be_pasted(shell: Shell) -> None:
    said = shell("create", "a paper boat", "--width", "480").stdout
    match = re.search(r"`sora-mcp (get \S+ --wait)`", said)
    assert match is not None
    waited = shell(*match[1].split())
    assert waited.returncode == 0
    assert "has succeeded" in waited.stdout


def test_the_wait_for_a_list_keeps_all_but_the_state_and_can_be_pasted(shell: Shell) -> None:
    shell("create", "a paper boat's sail", SORA_SANDBOX_SECONDS="30")
    typed = ("list", "--status", "running", "--query", "boat's", "--limit", "3")
    said = shell(*typed, SORA_SANDBOX_SECONDS="30").stderr
    match = re.search(r"`sora-mcp (list .* --wait)`", said)
    assert match is not None
    assert shlex.split(match[1]) == ["list", "--query", "boat's", "--limit", "3", "--wait"]


def test_the_next_page_is_asked_for_with_the_same_filters(shell: Shell) -> None:
    for prompt in ("one", "two"):
        shell("get", str(told(shell("create", prompt, "--json"))["task_id"]), "--wait")
    first = shell("list", "--status", "succeeded", "--limit", "1")
    match = re.search(r"There are more: sora-mcp (list .*)", first.stderr)
    assert match is not None
    assert match[1].startswith("list --status succeeded --limit 1 --cursor ")
    assert "one" in shell(*match[1].split()).stdout
