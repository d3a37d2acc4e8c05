"""The workspace of proofs: pinned programs and libraries in separate environments, steps with timeouts, no user files.

Everything is in one folder: `npm/` and `venvs/` are reused, `scratch/` starts empty for each proof.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread, Timer

SERVER = Path(sys.executable).with_name("sora-mcp")
CLIENTS = Path(__file__).parent / "clients"
PROJECT = Path(__file__).parents[2]
_REQUIRED = PROJECT / "pyproject.toml"
NODE = "node@22.23.3"
"""The conformance suite and the Inspector need Node 22; npm's package of that name carries the program."""
_INSTALL_SECONDS = 900
_START_SECONDS = 120
Report = tuple[tuple[str, ...], str]
"""The report of a proof: the eras that were spoken (none if the program does not say), and what was shown."""


class Failed(Exception):
    """A proof did not show what it should have shown."""


class Missing(Exception):
    """This machine lacks something that a proof needs."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The exit status and output of a step."""

    status: int
    out: str
    err: str


class Workshop:
    """The folder and the environment of one proof."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.scratch = folder / "scratch" / name
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.home = self.scratch / "home"
        self.home.mkdir(parents=True)
        self.settings = {
            "SORA_BASE_URL": "sandbox",
            "SORA_HOME": str(self.scratch / "ledger"),
            "SORA_OUTPUT_DIR": str(self.scratch / "videos"),
            "SORA_SANDBOX_SECONDS": "1",
        }

    def npm(self, *packages: str) -> Path:
        """The folder of an npm environment with these packages; steps that name it run on Node 22."""
        for group in ((NODE,), packages):
            target = self._npm(group)
            with _create_once(target, list(group)) as is_needed:
                if is_needed:
                    (target / "package.json").write_text('{"private": true}', encoding="utf-8")
                    _install([_npm_program(), "install", "--silent", "--no-audit", "--no-fund", *group], target)
        return target

    def _npm(self, packages: tuple[str, ...]) -> Path:
        return self.folder / "npm" / _label(packages)

    def venv(self, *requirements: str, alone: str = "") -> Path:
        """The Python of a virtual environment with these requirements; `alone`: one without what it requires."""
        target = self.folder / "venvs" / _label((*([alone] if alone else []), *requirements))
        python = target / "bin" / "python"
        # One that contains this project is recreated if the project's requirements have changed.
        required = [_REQUIRED.read_text(encoding="utf-8") for each in requirements if each.startswith(str(PROJECT))]
        with _create_once(target, [*requirements, alone, *required]) as is_needed:
            if is_needed:
                _install([sys.executable, "-m", "venv", "."], target)
                _install([str(python), "-m", "pip", "install", "--quiet", *requirements], target)
                if alone:
                    _install([str(python), "-m", "pip", "install", "--quiet", "--no-deps", alone], target)
        return python

    def run(
        self,
        *command: str | Path,
        npm: Path | None = None,
        cwd: Path | None = None,
        seconds: float = 60,
    ) -> Completed:
        """Run one step to its end. After its timeout it is killed, with all its children."""
        arguments = [str(word) for word in command]
        with subprocess.Popen(  # noqa: S603 - our own commands
            arguments,
            cwd=cwd or self.scratch,
            env=self._environment(npm),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise Failed(f"{_format_command(arguments)} took more than {seconds:g} s") from None
        return Completed(process.returncode, out, err)

    def do(self, *command: str | Path, npm: Path | None = None, cwd: Path | None = None, seconds: float = 60) -> str:
        """Run a step that must succeed, and return its stdout."""
        ended = self.run(*command, npm=npm, cwd=cwd, seconds=seconds)
        if ended.status:
            output = (ended.out + ended.err).strip()[-2000:]
            raise Failed(f"{_format_command([str(word) for word in command])} ended with {ended.status}:\n{output}")
        return ended.out

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The real server over streamable HTTP on a free loopback port; yields its address."""
        with self.listening(SERVER, "serve", "--transport", "streamable-http", "--port", "0") as address:
            yield address

    @contextmanager
    def sandbox(self, dialect: str) -> Iterator[str]:
        """The sandbox as a gateway that speaks a dialect, on a free loopback port; yields its address."""
        command = (SERVER, "sandbox", "--port", "0")
        with self.listening(*command, SORA_DIALECT=dialect, SORA_MODEL="sandbox") as address:
            yield address

    @contextmanager
    def listening(self, *command: str | Path, npm: Path | None = None, **settings: str) -> Iterator[str]:
        """Start a server that prints its loopback address once it listens; yields the address."""
        with subprocess.Popen(  # noqa: S603 - our own commands
            [str(word) for word in command],
            cwd=self.scratch,
            env=self._environment(npm) | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        ) as process:
            assert process.stdout is not None
            kill_timer = Timer(_START_SECONDS, process.kill)
            kill_timer.start()
            output = ""
            while (address := re.search(r"http://127\.0\.0\.1:\S+", output)) is None:
                line = process.stdout.readline()
                if not line:
                    raise Failed(f"{_format_command([str(word) for word in command])} did not start: {output[-2000:]}")
                output += line
            kill_timer.cancel()
            Thread(target=process.stdout.read, daemon=True).start()  # or a talkative server would block
            try:
                yield address[0]
            finally:
                process.terminate()

    def _environment(self, npm: Path | None) -> dict[str, str]:
        """The environment of a step: PATH, and its own home."""
        node = self._npm((NODE,)) / "node_modules" / "node" / "bin"
        programs = [str(node), str(npm / "node_modules" / ".bin")] if npm else []
        return {
            "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_DATA_HOME": str(self.home / ".local"),
            "TMPDIR": str(self.scratch),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "DO_NOT_TRACK": "1",
            "DISABLE_TELEMETRY": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "PROOF_SERVER": str(SERVER),
            **self.settings,
        }


def free_port() -> int:
    """A port of 127.0.0.1 where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def report_from(out: str) -> Report:
    """The report in the last line of a script's output."""
    report = json.loads(out.strip().splitlines()[-1])
    return tuple(report["eras"]), ", ".join(report["shown"])


def _npm_program() -> str:
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("there is no npm on this machine")
    return npm


def _label(packages: tuple[str, ...]) -> str:
    return "-".join("".join(c if c.isalnum() or c == "." else "_" for c in package) for package in packages)[:80]


@contextmanager
def _create_once(target: Path, contents: list[str]) -> Iterator[bool]:
    """Yield whether the environment has to be created. It is complete once it contains its list of contents."""
    stamp = target / "contents.json"
    expected = json.dumps(contents)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == expected:
        yield False
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    yield True
    stamp.write_text(expected, encoding="utf-8")


def _install(command: list[str], target: Path) -> None:
    """Install with this machine's own environment, and so with its settings for registries."""
    try:
        subprocess.run(  # noqa: S603 - our own commands
            command, cwd=target, stdin=subprocess.DEVNULL, capture_output=True, timeout=_INSTALL_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        raise Failed(
            f"{_format_command(command)} failed: {error.stderr.decode(errors='replace').strip()[-600:]}"
        ) from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{_format_command(command)} took more than {_INSTALL_SECONDS} s") from None


def _format_command(arguments: list[str]) -> str:
    return " ".join([Path(arguments[0]).name, *arguments[1:]])
