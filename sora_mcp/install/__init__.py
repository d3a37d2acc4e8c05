"""Adding the server to a client on this machine, and taking it out again.

Through the client's own command where it has one (`commands`), by merging its file where that is plain JSON (`files`),
and for the rest by the snippet to paste. No key is ever written: `manifests.clients` says how each client comes by it.
"""

from __future__ import annotations

from pathlib import Path

from sora_mcp.errors import FileProblem
from sora_mcp.install.commands import ClientCommand, client_command
from sora_mcp.install.files import ClientFile
from sora_mcp.install.machine import Machine
from sora_mcp.manifests.clients import Client, uses_sandbox
from sora_mcp.manifests.product import KEY, NAME, Launch


def install(client: Client, machine: Machine, launch: Launch, *, dry_run: bool = False) -> str:
    """Add the server to a client; says what was done. Where it cannot, raises FileProblem with the snippet to paste."""
    snippet = client.snippet(launch, machine.given)
    if dry_run:
        return _plan(client, machine, launch, snippet)
    command, file = client_command(client, machine, launch), _file(client, machine)
    try:
        if command is not None:
            done = command.add()
        elif file is not None:
            _require(client, file.path.parent)
            done = file.add(client.document(launch, machine.given)[file.container][KEY])
        else:
            return f"Paste this into {client.place}:\n\n{snippet}\n{_advice(client, machine)}"
    except FileProblem as problem:
        raise FileProblem(problem.message, f"Paste this into {client.place} yourself:\n\n{snippet}") from None
    return f"{client.title}: {done} Restart it to see the tools.\n{_advice(client, machine)}"


def uninstall(client: Client, machine: Machine, *, dry_run: bool = False) -> str:
    """Take the server out of a client; says what was done. Raises FileProblem where it cannot."""
    by_hand = f'To do it yourself, delete "{KEY}" in {client.place}.'
    command, file = client_command(client, machine, Launch(NAME)), _file(client, machine)
    try:
        if dry_run:
            return _removal(command, file) or by_hand
        if command is not None:
            return f"{client.title}: {command.remove()}"
        return f"{client.title}: {file.remove()}" if file is not None else by_hand
    except FileProblem as problem:
        raise FileProblem(problem.message, by_hand) from None


def _removal(command: ClientCommand | None, file: ClientFile | None) -> str:
    """What uninstalling would do; empty where a person does it."""
    if command is not None and command.remove_arguments:
        held = command.held()
        return f"This would be run:\n\n{command.shown(remove=True)}" if held else f"It has no server called {KEY}."
    file = file or (command.file if command is not None else None)
    if file is None:
        return ""
    return f'"{KEY}" would be taken out of {file.path}.' if file.held() else f"It does not stand in {file.path}."


def _file(client: Client, machine: Machine) -> ClientFile | None:
    """The file of a client whose file is plain JSON and may be merged."""
    paths = {
        "claude-desktop": machine.configuration / "Claude" / "claude_desktop_config.json",
        "cursor": machine.home / ".cursor" / "mcp.json",
        "windsurf": machine.home / ".codeium" / "windsurf" / "mcp_config.json",
    }
    path = paths.get(client.name)
    return ClientFile(path, "mcpServers") if path else None


def _plan(client: Client, machine: Machine, launch: Launch, snippet: str) -> str:
    command, file = client_command(client, machine, launch), _file(client, machine)
    if command is not None:
        return f"This would be run:\n\n{command.shown()}\n\nWhat {client.title} then holds:\n\n{snippet}"
    if file is not None:
        return f"This would be added to {file.path}:\n\n{snippet}"
    return f"Nothing would be written. This is to be pasted into {client.place}:\n\n{snippet}"


def _require(client: Client, folder: Path) -> None:
    if not folder.is_dir():
        raise FileProblem(f"{client.title} was not found: there is no folder {folder}.")


def _advice(client: Client, machine: Machine) -> str:
    """What is still to be done: the gateway's address and its key."""
    if uses_sandbox(machine.given):
        return "It uses the sandbox, which needs no key."
    if client.references or "SORA_BASE_URL" in machine.given:
        return client.key
    return (
        f"SORA_BASE_URL is not set here: set it (`sandbox`, or the gateway's address) and run this again. {client.key}"
    )
