"""Clients that add a server themselves: the commands they have for it."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from sora_mcp.core.errors import FileProblem
from sora_mcp.core.tasks import quoted
from sora_mcp.distribution.install.machine import Machine
from sora_mcp.distribution.install.own_entry import env_of, words_of
from sora_mcp.distribution.manifests.clients import Client
from sora_mcp.distribution.manifests.product import KEY, Document

Command = list[str]
"""A program and its arguments."""

_QUOTED = 300
"""So much of what a failed program said is repeated, in characters."""

_REMOVE: Mapping[str, Command] = {
    "claude-code": ["claude", "mcp", "remove", "--scope", "user", KEY],
    "codex": ["codex", "mcp", "remove", KEY],
    "gemini-cli": ["gemini", "mcp", "remove", "--scope", "user", KEY],
    "copilot-cli": ["copilot", "mcp", "remove", KEY],
    "qwen-code": ["qwen", "mcp", "remove", "--scope", "user", KEY],
}


def add_command(client: Client, entry: Document, questions: Sequence[Document]) -> Command | None:
    """A client's own command that adds this entry, where it has one."""
    started = words_of(entry)
    pairs = [word for name, value in entry[env_of(entry)].items() for word in ("--env", f"{name}={value}")]
    beyond = ["--", *started[1:]] if started[1:] else []
    match client.name:
        case "claude-code":
            return ["claude", "mcp", "add", "--scope", "user", KEY, *pairs, "--", *started]
        case "codex":
            return ["codex", "mcp", "add", KEY, *pairs, "--", *started]
        case "copilot-cli":
            return ["copilot", "mcp", "add", KEY, *pairs, "--", *started]
        case "gemini-cli":
            return ["gemini", "mcp", "add", "--scope", "user", *pairs, KEY, started[0], *beyond]
        case "qwen-code":
            return ["qwen", "mcp", "add", "--scope", "user", KEY, started[0], *pairs, *beyond]
        case "opencode":
            return ["opencode", "mcp", "add", KEY, *pairs, "--", *started]
        case "vscode":
            return ["code", "--add-mcp", json.dumps({"name": KEY, **entry, "inputs": questions})]
        case _:
            return None


def remove_command(client: Client) -> Command | None:
    """A client's own command that removes our entry. VS Code and opencode have one that adds, none that removes."""
    return _REMOVE.get(client.name)


def run(command: Command, client: Client, machine: Machine) -> None:
    """Run a client's command. Raises FileProblem where the client is not there, or says that it failed."""
    program, *arguments = command
    path = machine.find(program)
    if path is None:
        raise FileProblem(f"{client.title} was not found: there is no program {program}.")
    well, said = machine.run(path, arguments)
    if not well:
        raise FileProblem(f"{program} failed; its words: {quoted(said, _QUOTED)}")


def shown(command: Command, machine: Machine) -> str:
    """The command as a person would type it."""
    return subprocess.list2cmdline(command) if machine.platform == "win32" else shlex.join(command)
