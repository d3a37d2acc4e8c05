"""Every command, as the command line itself names them, wherever it may be run: in each encoding, at a terminal and in
a pipe, wide and narrow. What each help gives as an example is what is run here, so that no new command is left out."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from bench import COMMAND, environment, killed_on_failure
from documentation import ROOT
from terminals import read_terminal
from warm import warm_command

from sora_mcp.cli import main

pytestmark = pytest.mark.slow

Names = tuple[str, ...]


def contexts(ctx: click.Context) -> Iterator[click.Context]:
    """Of a command and of all that stand below it."""
    yield ctx
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, name)
            assert command is not None
            yield from contexts(click.Context(command, info_name=name, parent=ctx))


COMMANDS = list(contexts(click.Context(main, info_name="sora-mcp")))
EXAMPLE = re.compile(r"Example: (\S.*)\Z")


def path_of(ctx: click.Context) -> str:
    return ctx.command_path


def example_of(ctx: click.Context) -> str:
    match = EXAMPLE.search(ctx.command.epilog or "")
    assert match is not None, f"the help of {ctx.command_path} ends without an example: see cli.command.EndsWithExample"
    return match[1]


RUN_ON = {"sora-mcp serve", "sora-mcp sandbox", "sora-mcp demo"}
"""Commands that run until they are ended, or for long."""
ELSEWHERE = {"sora-mcp login", "sora-mcp logout", "sora-mcp ledger copy", "sora-mcp token import"}
"""Commands whose example needs a gateway or a database of one's own."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every example works: two finished videos, a request of which nobody knows what became, and
    somebody with a token."""
    folder = tmp_path_factory.mktemp("prepared")
    subprocess.run([*warm_command(), "create", "[lost] x"], check=False, capture_output=True, env=environment(folder))  # noqa: S603
    for prompt in ("\u8239 in the rain \U0001f419", "a caf\u00e9 at night"):
        words = ["create", prompt, "--size", "480x480", "--wait"]
        subprocess.run([*warm_command(), *words], check=True, capture_output=True, env=environment(folder))  # noqa: S603
    subprocess.run([*warm_command(), "token", "add", "bob"], check=True, capture_output=True, env=environment(folder))  # noqa: S603
    (folder / "films.jsonl").write_text('{"prompt": "a fox in the snow", "width": 480, "height": 480}\n')
    return folder


@pytest.fixture(scope="module")
def ids(prepared: Path) -> dict[str, list[str]]:
    """What stands there, by how its ids begin; the newest first."""

    def listed(prefix: str, status: str) -> list[str]:
        listing = [*warm_command(), "list", "--status", status]
        done = subprocess.run(listing, check=True, capture_output=True, text=True, env=environment(prepared))  # noqa: S603
        return re.findall(rf"^{prefix}\w+", done.stdout, re.MULTILINE)

    return {"task_": listed("task_", "succeeded"), "req_": listed("req_", "unknown")}


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "copy"))


def settings_in(folder: Path, **more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return environment(folder) | {"PATH": path, "HOME": str(folder), "SHELL": "/bin/bash"} | more


def line_for(ctx: click.Context, ids: dict[str, list[str]]) -> str:
    """Its example, with ids of the folder in the place of those that are left open, and any port."""
    line = example_of(ctx)
    for prefix, there in ids.items():
        for video_id in there:
            line = line.replace(f"{prefix}\u2026", video_id, 1)
    return re.sub(r"--port \d+", "--port 0", line)


def where(ctx: click.Context, folder: Path) -> Path:
    """`manifests` is for whoever works on this project."""
    return ROOT if ctx.info_name == "manifests" else folder


@pytest.mark.parametrize("ctx", COMMANDS, ids=path_of)
def test_the_example_at_the_end_of_each_help_works(folder: Path, ids: dict[str, list[str]], ctx: click.Context) -> None:
    shown = subprocess.run(  # noqa: S603
        [*warm_command(), *ctx.command_path.split()[1:], "--help"], check=True, capture_output=True, text=True
    )
    assert shown.stdout.rstrip().endswith(f"Example:\n    {example_of(ctx)}")
    if ctx.command_path in ELSEWHERE:
        return
    line = line_for(ctx, ids)
    with (
        subprocess.Popen(  # noqa: S603
            ["bash", "-c", f"exec {line}" if line.startswith("sora-mcp") else line],  # noqa: S607
            env=settings_in(folder),
            cwd=where(ctx, folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
        killed_on_failure(process),
    ):
        assert process.stdout is not None
        if ctx.command_path in RUN_ON:
            assert re.search("at http|Connected", process.stdout.readline())
            process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[0]
    assert (process.returncode == (130 if ctx.command_path in RUN_ON else 0), "Traceback" in said) == (True, False), (
        said
    )


# --- everywhere -----------------------------------------------------------------------------------


def shown_in_a_pipe(line: str, cwd: Path, environ: dict[str, str]) -> bytes:
    command = ["bash", "-c", f"timeout -s INT 20 {line} 2>&1"]
    done = subprocess.run(command, check=False, capture_output=True, env=environ, cwd=cwd, stdin=subprocess.DEVNULL)  # noqa: S603
    return done.stdout


def shown_at_a_terminal(line: str, cwd: Path, environ: dict[str, str], columns: int) -> bytes:
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = ["bash", "-c", f"timeout -s INT 20 {line}"]
    with (
        subprocess.Popen(  # noqa: S603
            command, env=environ, cwd=cwd, stdin=subprocess.DEVNULL, stdout=end, stderr=end
        ) as process,
        killed_on_failure(process),
    ):
        os.close(end)
        shown = read_terminal(terminal)
    os.close(terminal)
    return shown


def broken_ids(text: str, columns: int | None) -> list[str]:
    """Ids that are cut, or that a terminal of so many columns breaks; not those in the names of files."""
    broken = []
    for line in text.splitlines():
        for match in re.finditer(r"(?<![\w/])(?:task_(?!id\b)([0-9a-z]+)|req_([0-9a-z]+))", line):
            is_whole = len(match[1] or "") == 26 or len(match[2] or "") == 24
            is_folded = columns is not None and match.start() // columns != (match.end() - 1) // columns
            broken += [line] if is_folded or not is_whole else []
    return broken


PIPE = None
SCREENS: dict[str, tuple[int | None, dict[str, str]]] = {
    "utf-8": (60, {"TERM": "xterm"}),
    "cp1252": (100, {"TERM": "xterm", "NO_COLOR": "1"}),
    "ascii": (60, {"TERM": "dumb"}),
}
"""The terminal beside a pipe in which each encoding is tried: its columns, and what the environment says of it."""


@pytest.mark.parametrize("encoding", SCREENS)
@pytest.mark.parametrize("ctx", COMMANDS, ids=path_of)
def test_no_encoding_and_no_width_makes_a_command_fail(
    folder: Path, ids: dict[str, list[str]], ctx: click.Context, encoding: str
) -> None:
    columns, more = SCREENS[encoding]
    environ = settings_in(folder, PYTHONIOENCODING=encoding)
    runs = [(f"{ctx.command_path} --help", columns), (f"{ctx.command_path} --nonsense", PIPE)]
    shows_that_of_another = isinstance(ctx.command, click.Group)
    if not shows_that_of_another and ctx.command_path not in RUN_ON | ELSEWHERE | {"sora-mcp manifests"}:
        example = line_for(ctx, ids).removeprefix("SORA_BASE_URL=sandbox ")
        runs += [(example, PIPE), (example, columns)]
    for line, width in runs:
        if width is PIPE:
            shown = shown_in_a_pipe(line, folder, environ)
        else:
            shown = shown_at_a_terminal(line, folder, environ | more | {"COLUMNS": str(width)}, width)
        text = shown.decode(encoding)  # nothing of another encoding is among it
        assert "Traceback" not in text, text
        assert "NO_COLOR" not in more or re.search("\x1b\\[[0-9;]*m", text) is None, text
        assert broken_ids(text, width) == []


BROKEN = ["create x --dry-run", "list", "list --json", "doctor", "gateway --json", "--help", "completion zsh", "help"]


@pytest.mark.parametrize("words", BROKEN)
@pytest.mark.parametrize("redirect", ["", "2>&1"])
def test_a_reader_that_has_enough_causes_no_noise_however_much_is_written(
    folder: Path, words: str, redirect: str
) -> None:
    for reader in ("head -n 1", "head -c 1", "true"):
        command = f"sora-mcp {words} {redirect} | {reader} > /dev/null"
        environ = settings_in(folder)
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, env=environ)  # noqa: S603, S607
        assert (done.returncode, re.search("Traceback|Broken pipe|Exception", done.stderr)) == (0, None), done.stderr


# --- characters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_json_is_json_in_every_encoding(folder: Path, encoding: str) -> None:
    environ = settings_in(folder, PYTHONIOENCODING=encoding)
    done = subprocess.run([*warm_command(), "list", "--json"], check=True, capture_output=True, env=environ)  # noqa: S603
    prompts = [video.get("prompt") for video in json.loads(done.stdout.decode())["videos"]]
    assert "\u8239 in the rain \U0001f419" in prompts


ODD = os.fsdecode(b"\xff")
"""A byte that is no text in UTF-8, as a program gets it from the command line."""


@pytest.mark.parametrize(
    "words",
    [
        ("create", ODD),
        ("storyboard", "--action", f"0s={ODD}"),
        ("remix", "last", ODD),
        ("remix", ODD, "x"),
        ("list", "--query", ODD),
        ("get", ODD),
        ("settle", ODD, "--none"),
        ("settle", "req_0", "--task", ODD),
        ("install", ODD),
    ],
    ids=repr,
)
def test_arguments_that_are_no_text_are_said_and_nothing_is_sent(folder: Path, words: Names) -> None:
    before = len(list((folder / "home" / "sandbox" / "tasks").iterdir()))
    done = subprocess.run([*warm_command(), *words], check=False, capture_output=True, env=settings_in(folder))  # noqa: S603
    assert (done.returncode, b"no text in the encoding" in done.stderr, b"Traceback" in done.stderr) == (2, True, False)
    assert len(list((folder / "home" / "sandbox" / "tasks").iterdir())) == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the names of files are text")
def test_files_may_have_names_of_another_encoding(folder: Path) -> None:
    environ = settings_in(folder, SORA_OUTPUT_DIR=str(folder / ODD))
    for words in (
        ("create", "a boat", "--size", "480x480", "--download"),
        ("download", "last"),
        ("download", "last", "--out", f"{ODD}.mp4"),
        ("view", "last", "--out", f"{ODD}.png"),
        ("doctor",),
    ):
        done = subprocess.run([*warm_command(), *words], check=False, capture_output=True, env=environ, cwd=folder)  # noqa: S603
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    named = [*warm_command(), "create", "x", "--image", f"{ODD}.png"]
    done = subprocess.run(named, check=False, capture_output=True, env=environ, cwd=folder)  # noqa: S603
    assert (done.returncode, b"rename it" in done.stderr, b"Nothing was submitted" in done.stderr) == (2, True, True)
    assert {(folder / f"{ODD}.{end}").is_file() for end in ("mp4", "png")} == {True}


# --- help and completion --------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("-V",), ("--version",), ("version",)], ids=str)
def test_the_version_is_said_however_it_is_asked_for(words: Names) -> None:
    done = subprocess.run([*warm_command(), *words], check=True, capture_output=True, text=True)  # noqa: S603
    assert re.fullmatch(r"sora-mcp, version \d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize("words", [("help", "create"), ("help", "ledger", "new"), ("help",)], ids=str)
def test_help_says_what_help_of_a_command_says(words: Names) -> None:
    shown = [
        subprocess.run([*warm_command(), *asked], check=True, capture_output=True, text=True).stdout  # noqa: S603
        for asked in (words, (*words[1:], "--help"))
    ]
    assert shown[0].split("Options:")[1] == shown[1].split("Options:")[1]


def test_completion_is_set_up_once_and_leaves_the_rest_of_a_file_alone(tmp_path: Path) -> None:
    rc = tmp_path / ".bashrc"
    rc.write_bytes(b"# caf\xe9\nalias ll=ls")
    environ = os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": ""}
    for words in ("and added two lines", "already loads"):
        done = subprocess.run(  # noqa: S603
            [*warm_command(), "completion", "bash", "--install"],
            check=True,
            capture_output=True,
            text=True,
            env=environ,
        )
        assert words in done.stdout
    assert rc.read_bytes().startswith(b"# caf\xe9\nalias ll=ls\n# sora-mcp completion\n")
    assert rc.read_bytes().count(b"sora-mcp completion") == 1
    ask = f"PATH={Path(sys.executable).parent}:$PATH; . {rc}; COMP_WORDS=(sora-mcp cre); COMP_CWORD=1"
    ask += '; _sora_mcp_completion sora-mcp; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", ask], check=True, capture_output=True, text=True, env=environ)  # noqa: S603, S607
    assert done.stdout.strip() == "create"


def test_the_demo_does_not_open_with_an_error(tmp_path: Path) -> None:
    with (
        subprocess.Popen(  # noqa: S603
            [*COMMAND, "demo", "--out", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process,
        killed_on_failure(process),
    ):
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
    assert "dry_run" in lines[2]
    assert lines[3].startswith("sora  \u2190 Dry run")
