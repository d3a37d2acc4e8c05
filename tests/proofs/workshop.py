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
        for wanted in ((NODE,), packages):
            place = self._npm(wanted)
            with _made_once(place, list(wanted)) as needed:
                if needed:
                    (place / "package.json").write_text('{"private": true}', encoding="utf-8")
                    _install([_npm_program(), "install", "--silent", "--no-audit", "--no-fund", *wanted], place)
        return place

    def _npm(self, packages: tuple[str, ...]) -> Path:
        return self.folder / "npm" / _label(packages)

    def venv(self, *requirements: str, alone: str = "") -> Path:
        """The Python of a virtual environment with these requirements; `alone`: one without what it requires."""
        place = self.folder / "venvs" / _label((*([alone] if alone else []), *requirements))
        python = place / "bin" / "python"
        # One that contains this project is recreated if the project's requirements have changed.
        required = [_REQUIRED.read_text(encoding="utf-8") for each in requirements if each.startswith(str(PROJECT))]
        with _made_once(place, [*requirements, alone, *required]) as needed:
            if needed:
                _install([sys.executable, "-m", "venv", "."], place)
                _install([str(python), "-m", "pip", "install", "--quiet", *requirements], place)
                if alone:
                    _install([str(python), "-m", "pip", "install", "--quiet", "--no-deps", alone], place)
        return python

    def run(
        self,
        *command: str | Path,
        npm: Path | None = None,
        cwd: Path | None = None,
        seconds: float = 60,
    ) -> Completed:
        """Run one step to its end. After its timeout it is killed, with all its children."""
        words = [str(word) for word in command]
        with subprocess.Popen(  # noqa: S603 - our own commands
            words,
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
                raise Failed(f"{_shown(words)} took more than {seconds:g} s") from None
        return Completed(process.returncode, out, err)

    def do(self, *command: str | Path, npm: Path | None = None, cwd: Path | None = None, seconds: float = 60) -> str:
        """Run a step that must succeed, and return its stdout."""
        ended = self.run(*command, npm=npm, cwd=cwd, seconds=seconds)
        if ended.status:
            said = (ended.out + ended.err).strip()[-2000:]
            raise Failed(f"{_shown([str(word) for word in command])} ended with {ended.status}:\n{said}")
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
            late = Timer(_START_SECONDS, process.kill)
            late.start()
            said = ""
            while (address := re.search(r"http://127\.0\.0\.1:\S+", said)) is None:
                line = process.stdout.readline()
                if not line:
                    raise Failed(f"{_shown([str(word) for word in command])} did not start: {said[-2000:]}")
                said += line
            late.cancel()
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
    told = json.loads(out.strip().splitlines()[-1])
    return tuple(told["eras"]), ", ".join(told["shown"])


def _npm_program() -> str:
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("there is no npm on this machine")
    return npm


def _label(packages: tuple[str, ...]) -> str:
    return "-".join("".join(c if c.isalnum() or c == "." else "_" for c in package) for package in packages)[:80]


@contextmanager
def _made_once(place: Path, contents: list[str]) -> Iterator[bool]:
    """Yield whether the environment has to be created. It is complete once it contains its list of contents."""
    stamp = place / "contents.json"
    wanted = json.dumps(contents)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        yield False
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    yield True
    stamp.write_text(wanted, encoding="utf-8")


def _install(command: list[str], place: Path) -> None:
    """Install with this machine's own environment, and so with its settings for registries."""
    try:
        subprocess.run(  # noqa: S603 - our own commands
            command, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, timeout=_INSTALL_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        raise Failed(f"{_shown(command)} failed: {error.stderr.decode(errors='replace').strip()[-600:]}") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{_shown(command)} took more than {_INSTALL_SECONDS} s") from None


def _shown(words: list[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:]])
