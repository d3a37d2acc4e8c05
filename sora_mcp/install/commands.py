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
from sora_mcp.install.files import ClientFile, is_ours, merged, write_whole
from sora_mcp.install.machine import Machine
from sora_mcp.manifests.clients import Client, Given, input_ids, vscode_entry, vscode_inputs
from sora_mcp.manifests.product import KEY, Document, Launch
from sora_mcp.tasks import clean

_QUOTED = 300
"""So much of what a failed program said is repeated, in characters."""


@dataclass(frozen=True, slots=True)
class ClientCommand:
    """A client's own command, and the file in which the client keeps what it was told.

    The file is looked into first: a server of our name that is not ours is left alone.
    """

    client: Client
    machine: Machine
    program: str
    file: ClientFile
    entry: Document
    add_arguments: list[str]
    remove_arguments: list[str]

    def add(self) -> str:
        """Have the client add the server; says what was done. Raises FileProblem where it did not.

        An entry of ours that is there is changed in the file: the clients' commands would drop what was added to it.
        """
        path = self._found()
        if self.file.held() is not None:
            return self.file.add(self.entry, backup=False)
        self._run(path, self.add_arguments, "add")
        return f"Added with {self.program}."

    def remove(self) -> str:
        """Have the client remove the server; says what was done. Raises FileProblem where it did not."""
        path = self._found()
        if self.held() is None:
            return f"it has no server called {KEY}."
        self._run(path, self.remove_arguments, "remove")
        return f"Removed with {self.program}."

    def held(self) -> Document | None:
        """Our entry, if the client has it. Raises FileProblem where that cannot be told, or another has its name."""
        return self.file.held()

    def shown(self, *, remove: bool = False) -> str:
        """The command that adds or removes it, as a person would type it."""
        words = [self.program, *(self.remove_arguments if remove else self.add_arguments)]
        return subprocess.list2cmdline(words) if self.machine.platform == "win32" else shlex.join(words)

    def _found(self) -> str:
        path = self.machine.find(self.program)
        if path is None:
            raise FileProblem(f"{self.client.title} was not found: there is no program {self.program}.")
        return path

    def _run(self, path: str, arguments: list[str], what: str) -> None:
        well, said = self.machine.run(path, arguments)
        if not well:
            raise FileProblem(f"{self.program} did not {what} it; its words: {clean(said, _QUOTED)!r}")


@dataclass(frozen=True, slots=True)
class CodexCommand(ClientCommand):
    """Codex's command drops what it does not know: that is put back into its file, with the variables to forward."""

    def add(self) -> str:
        path, held = self._found(), self.held()
        entry = merged(self.entry, held)
        entry["env_vars"] = list(dict.fromkeys([*entry["env_vars"], *(held or {}).get("env_vars", [])]))
        if held is not None and _given(held) == _given(entry):
            return f"It stands in {self.file.path} already."
        self._run(path, _codex_add(entry), "add")
        done = f"Added with {self.program}."
        lines = {name: value for name, value in entry.items() if name not in {"command", "args", "env"}}
        try:
            text = self.file.path.read_bytes().decode("utf-8")
            told = "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
            head = rf"(?m)^\[mcp_servers\.{KEY}\]\r?\n"
            written = re.sub(head, lambda found: found[0] + told, text, count=1)
            _check_added(text, written, lines)
            write_whole(self.file.path.resolve(), written, like=self.file.path)
        except (OSError, ValueError, KeyError, TypeError):
            raise FileProblem(f"{done} But {self.file.path} could not be changed to forward the variables.") from None
        return (
            f"{done} It is handed the variables {', '.join(lines['env_vars'][:2])} and so on from Codex's environment."
        )

    def held(self) -> Document | None:
        path = self.file.path
        try:
            found = tomllib.loads(path.read_bytes().decode("utf-8")) if path.is_file() else {}
        except (OSError, ValueError):
            raise FileProblem(f"{path} was left untouched: it is not TOML that can be read.") from None
        held: Document | None = (found.get("mcp_servers") or {}).get(KEY)
        if held is not None and not is_ours(held):
            raise FileProblem(f'{path} was left untouched: another server is called "{KEY}" in it.')
        return held


def _given(entry: Document) -> Document:
    """What is said: Codex writes no empty lists and tables."""
    return {name: value for name, value in entry.items() if value not in ([], {})}


def _check_added(before: str, after: str, lines: Document) -> None:
    """Raises ValueError unless these lines are all that changed."""
    expected = tomllib.loads(before)
    expected["mcp_servers"][KEY] |= lines
    if tomllib.loads(after) != expected:
        raise ValueError("something else would change")


@dataclass(frozen=True, slots=True)
class VSCodeCommand(ClientCommand):
    """VS Code's command adds servers, with what to ask the person for, and removes none: that is done in its file."""

    def add(self) -> str:
        path, entry = self._found(), merged(self.entry, self.held())
        self._run(path, _vscode_add(entry, self.machine.given), "add")
        return f"Added with {self.program}."

    def remove(self) -> str:
        return self.file.remove(input_ids())


def codex_file(machine: Machine) -> Path:
    return Path(machine.environ.get("CODEX_HOME") or machine.home / ".codex") / "config.toml"


def client_command(client: Client, machine: Machine, launch: Launch) -> ClientCommand | None:
    """The command of a client that has one."""
    build = _COMMANDS.get(client.name)
    return build(client, machine, launch) if build else None


def _claude_code(client: Client, machine: Machine, launch: Launch) -> ClientCommand:
    entry = client.document(launch, machine.given)["mcpServers"][KEY]
    add = ["mcp", "add", "--scope", "user", KEY, *_pairs("--env", entry["env"]), "--", launch.command, *launch.args]
    file = ClientFile(Path(machine.environ.get("CLAUDE_CONFIG_DIR") or machine.home) / ".claude.json", "mcpServers")
    return ClientCommand(client, machine, "claude", file, entry, add, ["mcp", "remove", "--scope", "user", KEY])


def _codex(client: Client, machine: Machine, launch: Launch) -> ClientCommand:
    document = client.document(launch, machine.given)
    entry = {**document[f"mcp_servers.{KEY}"], "env": document.get(f"mcp_servers.{KEY}.env", {})}
    file = ClientFile(codex_file(machine), "mcp_servers")
    return CodexCommand(client, machine, "codex", file, entry, _codex_add(entry), ["mcp", "remove", KEY])


def _codex_add(entry: Document) -> list[str]:
    return ["mcp", "add", KEY, *_pairs("--env", entry["env"]), "--", entry["command"], *entry["args"]]


def _gemini_cli(client: Client, machine: Machine, launch: Launch) -> ClientCommand:
    entry = client.document(launch, machine.given)["mcpServers"][KEY]
    add = ["mcp", "add", "--scope", "user", *_pairs("--env", entry["env"]), KEY, launch.command, *launch.args]
    file = ClientFile(machine.home / ".gemini" / "settings.json", "mcpServers")
    return ClientCommand(client, machine, "gemini", file, entry, add, ["mcp", "remove", "--scope", "user", KEY])


def _vscode(client: Client, machine: Machine, launch: Launch) -> ClientCommand:
    entry = vscode_entry(launch, machine.given)
    file = ClientFile(machine.configuration / "Code" / "User" / "mcp.json", "servers")
    return VSCodeCommand(client, machine, "code", file, entry, _vscode_add(entry, machine.given), [])


def _vscode_add(entry: Document, given: Given) -> list[str]:
    return ["--add-mcp", json.dumps({"name": KEY, **entry, "inputs": vscode_inputs(given)})]


_COMMANDS: Mapping[str, Callable[[Client, Machine, Launch], ClientCommand]] = {
    "claude-code": _claude_code,
    "codex": _codex,
    "gemini-cli": _gemini_cli,
    "vscode": _vscode,
}


def _pairs(option: str, env: Given) -> list[str]:
    return [word for name, value in env.items() for word in (option, f"{name}={value}")]
