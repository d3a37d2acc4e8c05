"""Clients that have commands of their own to add and remove servers."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from sora_mcp.core.errors import FileProblem
from sora_mcp.core.tasks import quoted
from sora_mcp.distribution.install.machine import Machine
from sora_mcp.distribution.install.own_entry import command_line, env_key
from sora_mcp.distribution.manifests.clients import Client
from sora_mcp.distribution.manifests.product import KEY, Document

Command = list[str]
"""A program and its arguments."""

_MAX_OUTPUT_LENGTH = 300
"""How much of a failed program's output is quoted."""

_REMOVE_COMMANDS: Mapping[str, Command] = {
    "claude-code": ["claude", "mcp", "remove", "--scope", "user", KEY],
    "codex": ["codex", "mcp", "remove", KEY],
    "gemini-cli": ["gemini", "mcp", "remove", "--scope", "user", KEY],
    "copilot-cli": ["copilot", "mcp", "remove", KEY],
    "qwen-code": ["qwen", "mcp", "remove", "--scope", "user", KEY],
}


def add_command(client: Client, entry: Document, questions: Sequence[Document]) -> Command | None:
    """Return the client's command that adds this entry, or None if it has none."""
    argv = command_line(entry)
    env_options = [option for name, value in entry[env_key(entry)].items() for option in ("--env", f"{name}={value}")]
    rest = ["--", *argv[1:]] if argv[1:] else []
    match client.name:
        case "claude-code":
            return ["claude", "mcp", "add", "--scope", "user", KEY, *env_options, "--", *argv]
        case "codex":
            return ["codex", "mcp", "add", KEY, *env_options, "--", *argv]
        case "copilot-cli":
            return ["copilot", "mcp", "add", KEY, *env_options, "--", *argv]
        case "gemini-cli":
            return ["gemini", "mcp", "add", "--scope", "user", *env_options, KEY, argv[0], *rest]
        case "qwen-code":
            return ["qwen", "mcp", "add", "--scope", "user", KEY, argv[0], *env_options, *rest]
        case "opencode":
            return ["opencode", "mcp", "add", KEY, *env_options, "--", *argv]
        case "vscode":
            return ["code", "--add-mcp", json.dumps({"name": KEY, **entry, "inputs": questions})]
        case _:
            return None


def remove_command(client: Client) -> Command | None:
    """Return the client's command that removes our entry, or None. VS Code and opencode have only one that adds."""
    return _REMOVE_COMMANDS.get(client.name)


def run(command: Command, client: Client, machine: Machine) -> None:
    """Run a client's command. Raises FileProblem if the client is not installed, or the command fails."""
    program, *arguments = command
    path = machine.find(program)
    if path is None:
        raise FileProblem(f"{client.title} was not found: there is no program {program}.")
    is_ok, output = machine.run(path, arguments)
    if not is_ok:
        raise FileProblem(f"{program} failed: {quoted(output, _MAX_OUTPUT_LENGTH)}")


def format_command(command: Command, machine: Machine) -> str:
    """Format the command as a person would type it."""
    return subprocess.list2cmdline(command) if machine.platform == "win32" else shlex.join(command)
