"""What a person at a shell is told is about what they typed: files, options and commands, not a tool's fields."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import anyio
import pytest
from bench import ACCEPTED, COMMAND, Run
from bench import environment as settings_of
from calls import NOTHING_SENT
from fault_gateway import CREATE, FaultGateway, Hold
from terminals import read_terminal


@pytest.mark.parametrize("source", ["./no pe.png", "nope.PNG", "/nowhere/x", "~/x", "..\\x.jpg"])
def test_a_source_that_is_meant_as_a_file_and_is_not_there_is_said_to_be_missing(run: Run, source: str) -> None:
    done = run("blend", source, "last")
    assert done.returncode == 2
    assert f'There is no file "{source}".\nNothing was submitted and nothing was charged.\n' in done.stderr
    assert "inpaint_items" not in done.stderr


@pytest.mark.parametrize("sources", [(), ("task_1",), ("task_1", "task_2", "task_3")], ids=len)
def test_a_blend_of_any_number_but_two_says_that_it_takes_two_sources(run: Run, sources: tuple[str, ...]) -> None:
    done = run("blend", *sources)
    assert done.returncode == 2
    assert f"It takes two sources, and you named {len(sources) or 'none'}" in done.stderr
    said = json.loads(run("blend", *sources, "--json").stdout)
    assert (said["outcome"], said["error"]["kind"]) == ("not_submitted", "invalid_input")


def test_the_help_says_what_a_blend_makes(run: Run) -> None:
    said = " ".join(run("blend", "--help").stdout.split())
    assert "Make a video in which one video or image turns into another. Costs money." in said


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "outcome"), [(502, "unknown"), (400, "rejected")])
@pytest.mark.parametrize("options", [("--json",), ()], ids=str)
async def test_ctrl_c_during_a_create_names_the_request_and_the_command_that_shows_it(
    gateway: FaultGateway, tmp_path: Path, status: int, outcome: str, options: tuple[str, ...]
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, status=status, body=b"{}", hold=hold))
    command = [*COMMAND, "create", "a boat", *options]
    with anyio.fail_after(60):
        async with await anyio.open_process(
            command, env=settings_of(tmp_path, gateway), stderr=subprocess.STDOUT
        ) as process:
            await hold.reached.wait()
            process.send_signal(signal.SIGINT)
            hold.release.set()
            assert process.stdout is not None
            said = b"".join([chunk async for chunk in process.stdout]).decode()
            assert await process.wait() == 130
    (line,) = [each for each in said.splitlines() if "sora-mcp get req_" in each]
    request_id = line.partition("sora-mcp get ")[2].split()[0]
    assert f"See what became of {request_id}: sora-mcp get {request_id} --wait" in line
    if options:
        ended = json.loads(said)
        assert (ended["outcome"], ended["request_id"]) == (outcome, request_id)
        assert ended["error"]["next_step"] in line
        assert request_id not in ended["error"]["message"]


def test_a_new_ledger_that_is_declined_moves_nothing_and_says_so(
    environment: dict[str, str], run: Run, tmp_path: Path
) -> None:
    run("create", "a boat", "--json")
    terminal, end = pty.openpty()
    os.write(terminal, b"n\n")
    done = subprocess.run(  # noqa: S603
        [*COMMAND, "ledger", "new"], check=False, stdin=end, stdout=PIPE, stderr=end, env=environment, timeout=60
    )
    os.close(end)
    shown = read_terminal(terminal)
    os.close(terminal)
    assert (done.returncode, done.stdout) == (130, b"")  # the question is read where answers are typed
    assert b"Nothing was moved." in shown
    assert (tmp_path / "home" / "ledger.sqlite3").exists()
    unasked = run("ledger", "new")
    assert "There is nobody to ask here: add --yes. Nothing was moved." in unasked.stderr


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        (("download",), "download "),
        (("create", "x", "--no-such"), "create "),
        (("create", "x", "--size", "big"), "create "),
        (("ledger", "new"), "ledger new "),
        (("nowhere",), ""),
    ],
    ids=str,
)
def test_what_is_wrongly_used_is_named_in_the_advice_with_json_too(
    run: Run, typed: tuple[str, ...], names: str
) -> None:
    assert f"sora_mcp {names}--help' for help." in run(*typed).stderr
    assert json.loads(run(*typed, "--json").stdout)["error"]["next_step"] == f"See `sora-mcp {names}--help`."


@pytest.mark.parametrize(
    ("typed", "shown", "in_json"),
    [
        (("create", "x", "--n-frames", "7"), "--n-frames: 7 is not", "n_frames: 7 is not"),
        (("create",), "PROMPT: is blank; allowed: text, or an image in --image.", "in inpaint_items."),
        (("storyboard",), "--action: none given", "actions: none given"),
        (("storyboard", "--action", "0s=a", "--action", "1s= "), "--action 2: ", "actions[1].description: "),
        (("remix", "nope", "x"), "SOURCE: is not an id", "source_generation_id: is not an id"),
        (("blend", "task_1", "task_2"), "SOURCE 1: ", "inpaint_items[0].generation_id: "),
        (("list", "--cursor", "bogus"), "--cursor: is not a cursor", "cursor: is not a cursor"),
        (("get", "../x"), "TASK_ID: is not an id", "task_id: is not an id"),
    ],
    ids=str,
)
def test_a_problem_names_what_was_typed_and_with_json_the_field(
    run: Run, typed: tuple[str, ...], shown: str, in_json: str
) -> None:
    assert shown in run(*typed).stderr
    message = json.loads(run(*typed, "--json").stdout)["error"]["message"]
    assert in_json in message
    assert "--" not in message


def test_a_problem_in_a_file_names_the_field_that_the_file_has(run: Run, tmp_path: Path) -> None:
    (tmp_path / "beats.json").write_text('[{"time": 0, "description": " "}]')
    said = run("storyboard", "--actions", "beats.json").stderr
    assert "beats.json, line 1, actions[0].description: is blank" in said


IMAGE = "https://pictures.example/1.png"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("create", "x", "--inpaint-items", "items.json"), "items.json, line 1, inpaint_items[0]: is blank."),
        (("create", "x", "--inpaint-items", "urls.json"), "urls.json, line 1, inpaint_items[0]: is blank."),
        (("batch", "films.jsonl"), "line 1: inpaint_items[0]: is blank."),
        (("create", "x", "--inpaint-items", "twice.json"), "twice.json: url is given twice."),
        (("storyboard", "--actions", "body.json"), "body.json holds more than actions (n_frames)"),
        (("create", "x", "--model", "", "--n-frames", " "), "--model: is blank. --n-frames: is blank."),
        (("create", "x", "--model", "null"), '--model: "null" is not accepted.'),
        (("create", "", "--image", IMAGE), "PROMPT: is blank."),
        (("list", "--query", ""), "--query: is blank."),
        (("get", "last", "--wait", "--wait-seconds", "3"), "Give either --wait or --wait-seconds, not both."),
        (("serve", "--port", "8001"), "--port goes with --transport streamable-http."),
    ],
    ids=str,
)
def test_what_is_given_is_never_dropped_without_a_word(
    run: Run, tmp_path: Path, typed: tuple[str, ...], said: str
) -> None:
    (tmp_path / "items.json").write_text("[{}]")
    (tmp_path / "urls.json").write_text('[{"url": ""}]')
    (tmp_path / "films.jsonl").write_text('{"prompt": "x", "inpaint_items": [{"url": " "}]}')
    (tmp_path / "twice.json").write_text(f'[{{"url": "{IMAGE}", "url": "{IMAGE}"}}]')
    (tmp_path / "body.json").write_text('{"actions": [{"time": 0, "description": "a door"}], "n_frames": 300}')
    done = run(*typed)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "home" / "sandbox" / "tasks").exists()


def test_a_batch_names_all_bad_lines_at_once(run: Run, tmp_path: Path) -> None:
    lines = ['{"prompt": "a", "colour": 1}', '{"inpaint_items": [{"url": "nowhere.png"}]}', '{"prompt": "b"}', "{"]
    (tmp_path / "films.jsonl").write_text("\n".join(lines))
    said = run("batch", "films.jsonl").stderr
    assert [line.split(":")[1].strip() for line in said.splitlines()[:3]] == ["line 1", "line 2", "line 4"]
    assert 'there is no file "nowhere.png"' in said


def test_a_wrong_id_is_named_as_it_was_typed_and_leads_nowhere(run: Run) -> None:
    said = run("download", "../x", "--wait").stderr
    assert "TASK_ID: is not an id" in said
    assert "still at the gateway" not in said


def test_a_size_that_is_wrong_is_named_by_the_option_that_was_typed(run: Run) -> None:
    assert "sora-mcp: --size: 9x9 is not a documented size" in run("create", "x", "--size", "9x9").stderr
    assert "sora-mcp: --width, --height: 9x9 is" in run("create", "x", "--width", "9", "--height", "9").stderr


def test_nobody_at_a_shell_is_told_of_a_server(run: Run) -> None:
    assert "run the command again" in run("create", "x", MAX_COST_PR_DAY="3").stderr
    assert "this server" not in run("create", "x", BASE_URL="https://api.example", API_KEY="").stderr


def test_the_help_of_options_is_for_a_person(run: Run) -> None:
    said = " ".join(run(command, "--help").stdout for command in ("create", "remix", "get", "list", "view", "gateway"))
    for words in ("the user", "Leave out", "use 50", "next_cursor", "n_variants,"):
        assert words not in said


def test_a_command_that_there_is_not_leads_to_commands_and_no_tools(run: Run) -> None:
    said = run("cancel").stderr
    assert "`sora-mcp get` shows its state." in said
    assert "get_video" not in said


@pytest.mark.parametrize(
    "command",
    ["batch films.jsonl --out -", "view last --out -", "storyboard --action 0s=door --dry-run --board -"],
)
def test_no_file_is_made_that_is_called_as_standard_output_is(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "films.jsonl").write_text('{"prompt": "a boat"}\n')
    refused = run(*command.split())
    assert refused.returncode == 2
    assert "It is not written to standard output: name a file." in " ".join(refused.stderr.split())
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("command", ["view last --out", "storyboard --action 0s=door --dry-run --board"])
@pytest.mark.parametrize("name", ["boat.gif", "boat.mp4", "plan.pdf"])
def test_a_picture_is_not_written_to_a_file_of_another_kind(run: Run, tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / name).write_text("mine")
    refused = run(*command.split(), name)
    assert refused.returncode == 2
    assert f"ends in {Path(name).suffix}: end it in .png or .jpg. Nothing was written." in " ".join(
        refused.stderr.split()
    )
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ("remix",),
        ("create", "x", "--image", "nowhere.png"),
        ("create", "x", "--seconds", "soon"),
        ("create", "x", "--out", "/nowhere/x.mp4"),
        ("storyboard", "--actions", "nowhere.json"),
        ("blend", "last"),
        ("batch",),
    ],
    ids=str,
)
def test_a_misused_paid_command_says_once_that_nothing_was_submitted(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr.count("Nothing was"), done.stderr.splitlines()[-1]) == (2, 1, NOTHING_SENT)
    if arguments != ("batch",):
        message = json.loads(run(*arguments, "--json").stdout)["error"]["message"]
        assert (message.count("Nothing was"), message.endswith(f" {NOTHING_SENT}")) == (1, True), message
