"""At a terminal a person is asked before something dear is submitted, after all checks; only a yes lets it be sent."""

from __future__ import annotations

import os
import pty
import subprocess
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from bench import ACCEPTED, COMMAND, killed_on_failure
from bench import environment as settings_of
from fault_gateway import CREATE, FaultGateway
from terminals import CTRL_C, read_terminal

pytestmark = pytest.mark.anyio

QUESTION = "Make this video (create, 854x480, 5 s) at 127.0.0.1"
YES, NO, CTRL_D = b"y\n", b"n\n", b"\x04"


class Terminal:
    """A shell's terminal, at which somebody types one answer to each question."""

    def __init__(self, folder: Path, gateway: FaultGateway) -> None:
        self._settings = settings_of(folder, gateway, ASK_ABOVE_COST="1")
        self._folder = folder
        self.log: Path | None = None
        """Where stderr goes, if not to the terminal."""

    async def run(self, answer: bytes, *arguments: str, **settings: str) -> tuple[str, int]:
        """What it shows of a command, and how that ends."""
        environ = self._settings | {f"SORA_{name}": value for name, value in settings.items()}
        return await anyio.to_thread.run_sync(self._run, answer, arguments, environ)

    def _run(self, answer: bytes, arguments: tuple[str, ...], environ: dict[str, str]) -> tuple[str, int]:
        terminal, end = pty.openpty()
        command = ["setsid", "--ctty", *COMMAND, *arguments]
        with (
            open(end if self.log is None else self.log, "wb", closefd=self.log is not None) as errors,
            subprocess.Popen(  # noqa: S603
                command, stdin=end, stdout=end, stderr=errors, env=environ, cwd=self._folder
            ) as process,
            killed_on_failure(process),
        ):
            os.close(end)
            shown = read_terminal(terminal, b"[y/N]: ")
            if b"[y/N]" in shown:
                os.write(terminal, answer)
                shown += read_terminal(terminal, typed=answer)
            os.close(terminal)
            return " ".join(shown.decode().split()), process.wait(60)


@pytest.fixture
def terminal(tmp_path: Path, gateway: FaultGateway) -> Terminal:
    return Terminal(tmp_path, gateway)


async def test_after_a_yes_it_is_sent_once(terminal: Terminal, gateway: FaultGateway) -> None:
    shown, status = await terminal.run(YES, "create", "a boat")
    assert QUESTION in shown
    assert "for a relative cost of 1.25? [y/N]: y" in shown
    assert "Submitted as task_new" in shown
    assert (status, len(gateway.creates())) == (0, 1)


@pytest.mark.parametrize("answer", [NO, b"\n", CTRL_C, CTRL_D])
@pytest.mark.parametrize(
    "command", [("create", "a boat"), ("storyboard", "--action", "0s=a door"), ("create", "a boat", "--wait")], ids=str
)
async def test_everything_but_a_yes_is_a_no_and_says_that_nothing_was_submitted(
    terminal: Terminal, gateway: FaultGateway, answer: bytes, command: tuple[str, ...]
) -> None:
    shown, status = await terminal.run(answer, *command)
    assert "Not confirmed. Nothing was submitted and nothing was charged." in shown
    assert (status, gateway.creates()) == (130, [])


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (("create", "a boat", "--n-frames", "7"), {}, "--n-frames: 7 is not"),
        (("create", "a boat"), {"MAX_COST_PER_CALL": "1"}, "SORA_MAX_COST_PER_CALL allows 1"),
        (("create", "a boat"), {"MAX_CALLS_PER_DAY": "0"}, "SORA_MAX_CALLS_PER_DAY"),
        (("create", "a boat", "--dry-run"), {}, "A real call would ask first"),
    ],
    ids=str,
)
async def test_nobody_is_asked_about_what_would_not_be_sent(
    terminal: Terminal, gateway: FaultGateway, arguments: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    shown, _ = await terminal.run(YES, *arguments, **settings)
    assert said in shown
    assert "[y/N]" not in shown
    assert gateway.creates() == []


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (("create", "a boat", "--yes"), {}),
        (("create", "a boat", "--json"), {}),
        (("create", "a boat"), {"ASK_ABOVE_COST": "2"}),
    ],
    ids=str,
)
async def test_nobody_is_asked_about_what_is_cheap_or_agreed_to_already(
    terminal: Terminal, gateway: FaultGateway, arguments: tuple[str, ...], settings: dict[str, str]
) -> None:
    shown, status = await terminal.run(NO, *arguments, **settings)
    assert "[y/N]" not in shown
    assert (status, len(gateway.creates())) == (0, 1)


@pytest.mark.parametrize("command", [("batch", "films.jsonl"), ("ledger", "new")], ids=str)
async def test_nobody_is_asked_who_cannot_see_the_question(
    terminal: Terminal, gateway: FaultGateway, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "films.jsonl").write_text('{"prompt": "a boat"}\n')
    terminal.log = tmp_path / "errors.log"
    shown, status = await terminal.run(YES, *command)
    assert "add --yes" in " ".join(terminal.log.read_text().split())
    assert (shown, status in {2, 3}, gateway.creates()) == ("", True, [])


async def test_nobody_is_asked_about_a_duplicate(terminal: Terminal, gateway: FaultGateway) -> None:
    await terminal.run(YES, "create", "a boat")
    shown, status = await terminal.run(NO, "create", "a boat")
    assert "submitted before as task_new" in shown
    assert "[y/N]" not in shown
    assert (status, len(gateway.creates())) == (0, 1)


@pytest.mark.parametrize(("answer", "status", "sent"), [(NO, 4, 1), (YES, 0, 2)])
async def test_whether_an_earlier_one_ran_is_asked_too(
    terminal: Terminal, gateway: FaultGateway, answer: bytes, status: int, sent: int
) -> None:
    gateway.on("POST", CREATE, replace(ACCEPTED, status=502, body=b"{}"), ACCEPTED)
    await terminal.run(YES, "create", "a boat")
    shown, ended = await terminal.run(answer, "create", "a boat")
    assert "Say yes only if the gateway's own log shows that it did not run" in shown
    assert (ended, len(gateway.creates())) == (status, sent)
    if not sent - 1:
        assert "its outcome is unknown; it was not sent again" in shown
        assert "sora-mcp settle req_" in shown
