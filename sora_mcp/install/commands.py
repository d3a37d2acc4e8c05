"""Clients that add a server themselves: the commands they have for it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sora_mcp.errors import FileProblem
from sora_mcp.install.files import OURS, ClientFile, write_whole
from sora_mcp.install.machine import Machine
from sora_mcp.manifests.clients import Client, Given, forwarded, vscode_entry, vscode_inputs
from sora_mcp.manifests.product import KEY, Launch
from sora_mcp.tasks import clean

_QUOTED = 300
"""So much of what a failed program said is repeated, in characters."""


@dataclass(frozen=True, slots=True)
class ClientCommand:
    """A client's own command. `show_arguments` ask it for the server, where it can be asked."""

    client: Client
    machine: Machine
    program: str
    add_arguments: list[str]
    remove_arguments: list[str]
    show_arguments: list[str] | None = None

    def add(self) -> str:
        """Have the client add the server; says what was done. Raises FileProblem where it did not."""
        path = self._found()
        held = self._held(path)
        if held is not None:  # Claude Code adds nothing twice, so ours is taken out first
            self._check_ours(held)
            self.machine.run(path, self.remove_arguments)
        well, said = self.machine.run(path, self.add_arguments)
        if not well:
            raise self._failed("add", said)
        return f"Added with {self.program}."

    def remove(self) -> str:
        path = self._found()
        held = self._held(path)
        if held is not None:
            self._check_ours(held)
        elif self.show_arguments:
            return f"it has no server called {KEY}."
        well, said = self.machine.run(path, self.remove_arguments)
        if not well:
            raise self._failed("remove", said)
        return f"Removed with {self.program}."

    def shown(self) -> str:
        """The command that adds it, as a person would type it."""
        words = [self.program, *self.add_arguments]
        return subprocess.list2cmdline(words) if self.machine.platform == "win32" else shlex.join(words)

    def _found(self) -> str:
        path = self.machine.find(self.program)
        if path is None:
            raise FileProblem(f"{self.client.title} was not found: there is no program {self.program}.")
        return path

    def _held(self, path: str) -> str | None:
        """What the client says of the server of our name; None where it has none, or cannot be asked."""
        if self.show_arguments is None:
            return None
        well, said = self.machine.run(path, self.show_arguments)
        return said if well else None

    def _check_ours(self, held: str) -> None:
        if not any(name in held for name in OURS):
            raise FileProblem(f"Another server is called {KEY} in {self.client.title}; it was left alone.")

    def _failed(self, what: str, said: str) -> FileProblem:
        return FileProblem(f"{self.program} did not {what} it; its words: {clean(said, _QUOTED)!r}")


@dataclass(frozen=True, slots=True)
class CodexCommand(ClientCommand):
    """Codex's command has no way to forward variables, so that line is put into its file afterwards."""

    def add(self) -> str:
        done = ClientCommand.add(self)
        path = codex_file(self.machine)
        names = forwarded(self.machine.given)
        try:
            text = path.read_bytes().decode("utf-8")
            written = re.sub(
                rf"(?m)^\[mcp_servers\.{KEY}\]\r?\n", rf"\g<0>env_vars = {json.dumps(names)}\n", text, count=1
            )
            _check_forwards(text, written, names)
            write_whole(path.resolve(), written, like=path)
        except (OSError, ValueError, KeyError):
            raise FileProblem(f"{done} But {path} could not be changed to forward the variables.") from None
        return f"{done} It is handed the variables {', '.join(names[:2])} and so on from Codex's environment."


def _check_forwards(before: str, after: str, names: list[str]) -> None:
    """Raises ValueError unless the forwarded variables are all that changed."""
    expected = tomllib.loads(before)
    expected["mcp_servers"][KEY]["env_vars"] = names
    if tomllib.loads(after) != expected:
        raise ValueError("something else would change")


@dataclass(frozen=True, slots=True)
class VSCodeCommand(ClientCommand):
    """VS Code's command adds servers and removes none: that is done in its file."""

    def remove(self) -> str:
        return ClientFile(self.machine.configuration / "Code" / "User" / "mcp.json", "servers").remove()


def codex_file(machine: Machine) -> Path:
    return Path(machine.environ.get("CODEX_HOME") or machine.home / ".codex") / "config.toml"


def client_command(client: Client, machine: Machine, launch: Launch) -> ClientCommand | None:
    """The command of a client that has one."""
    build = _COMMANDS.get(client.name)
    return build(client, machine, launch) if build else None


def _claude_code(client: Client, machine: Machine, launch: Launch) -> ClientCommand:
    pairs = _pairs("--env", _env(client, launch, machine.given))
    add = ["mcp", "add", "--scope", "user", KEY, *pairs, "--", launch.command, *launch.args]
    remove = ["mcp", "remove", "--scope", "user", KEY]
    return ClientCommand(client, machine, "claude", add, remove, ["mcp", "get", KEY])


def _codex(client: Client, machine: Machine, launch: Launch) -> ClientCommand:
    add = ["mcp", "add", KEY, *_pairs("--env", machine.given), "--", launch.command, *launch.args]
    return CodexCommand(client, machine, "codex", add, ["mcp", "remove", KEY], ["mcp", "get", KEY])


def _gemini_cli(client: Client, machine: Machine, launch: Launch) -> ClientCommand:
    pairs = _pairs("--env", _env(client, launch, machine.given))
    add = ["mcp", "add", "--scope", "user", *pairs, KEY, launch.command, *launch.args]
    return ClientCommand(client, machine, "gemini", add, ["mcp", "remove", "--scope", "user", KEY])


def _vscode(client: Client, machine: Machine, launch: Launch) -> ClientCommand:
    entry = {"name": KEY, **vscode_entry(launch, machine.given), "inputs": vscode_inputs(machine.given)}
    return VSCodeCommand(client, machine, "code", ["--add-mcp", json.dumps(entry)], [])


_COMMANDS: Mapping[str, Callable[[Client, Machine, Launch], ClientCommand]] = {
    "claude-code": _claude_code,
    "codex": _codex,
    "gemini-cli": _gemini_cli,
    "vscode": _vscode,
}


def _env(client: Client, launch: Launch, given: Given) -> dict[str, str]:
    env: dict[str, str] = client.document(launch, given)["mcpServers"][KEY]["env"]
    return env


def _pairs(option: str, env: Given) -> list[str]:
    return [word for name, value in env.items() for word in (option, f"{name}={value}")]
