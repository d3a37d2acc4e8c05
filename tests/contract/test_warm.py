"""A command that `warm` forks is like one that is started for real, and nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from bench import COMMAND, killed_on_failure
from warm import warm_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each command is started for real"),
]


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("create",),
        ("list", "--json"),
        ("list", "--query", os.fsdecode(b"\xff")),
        ("create", "-", "--dry-run"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "differing",
    [{}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "LANG": ""}, {"COLUMNS": "50", "TZ": "Asia/Tokyo"}],
    ids=" ".join,
)
def test_a_command_says_and_ends_as_one_that_is_started_for_real(
    environment: dict[str, str], tmp_path: Path, words: tuple[str, ...], differing: dict[str, str]
) -> None:
    ended = []
    for program in (COMMAND, warm_command()):
        done = subprocess.run(  # noqa: S603
            [*program, *words],
            check=False,
            capture_output=True,
            env=environment | differing,
            cwd=tmp_path,
            input="船".encode(),
        )
        ended.append((done.returncode, done.stdout, done.stderr))
    assert ended[0] == ended[1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_handed_on(environment: dict[str, str], how: signal.Signals) -> None:
    said = []
    for program in (COMMAND, warm_command()):
        command = [*program, "sandbox", "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as sandbox, killed_on_failure(sandbox):  # noqa: S603
            assert sandbox.stderr is not None
            assert b"listens" in sandbox.stderr.readline()
            sandbox.send_signal(how)
            said.append((sandbox.wait(timeout=60), sandbox.stderr.read()))
    assert said[0] == said[1]


def test_a_command_is_gone_when_what_started_it_is_killed(environment: dict[str, str]) -> None:
    command = [*warm_command(), "sandbox", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as sandbox, killed_on_failure(sandbox):  # noqa: S603
        assert sandbox.stderr is not None
        assert b"listens" in sandbox.stderr.readline()
        sandbox.kill()
        sandbox.communicate(timeout=60)  # nobody holds its stderr any more


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_process_is_gone_with_the_tests(how: signal.Signals | None) -> None:
    tests = f"import sys; sys.path.insert(0, {str(Path(warm.__file__).parent)!r}); from warm import warm_command"
    tests += "; print(warm_command()[-1], flush=True); input()"
    command = [sys.executable, "-c", tests]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes) as process, killed_on_failure(process):  # type: ignore[call-overload]  # noqa: S603
        assert b"socket" in process.stdout.readline()
        if how is not None:
            process.send_signal(how)
        process.communicate(b"\n", timeout=60)  # nobody holds its stderr any more
