"""How a client gets the server, and loses it again.

Through the client's own command where it has one (`commands`), by merging its file where that is plain JSON (`files`),
and for the rest by the snippet to paste. The file is read first in either case: another server of our name is left
alone, and an entry of ours keeps what somebody added to it (`own_entry`), which the command would write over.
No key is ever written: `manifests.clients` says how each client comes by it.
"""

from __future__ import annotations

from pathlib import Path

from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem
from sora_mcp.distribution.install.commands import add_command, remove_command, run, shown
from sora_mcp.distribution.install.files import ClientFile, CodexFile, Renew
from sora_mcp.distribution.install.machine import Machine
from sora_mcp.distribution.install.own_entry import env_of, renewed
from sora_mcp.distribution.manifests.clients import Client, Values, uses_sandbox, vscode_inputs
from sora_mcp.distribution.manifests.product import KEY, Document, Launch


def install(client: Client, machine: Machine, launch: Launch, *, dry_run: bool = False) -> str:
    """Add the server to a client; says what was done. Where it cannot, raises FileProblem with the snippet to paste."""
    values = machine.plain_settings
    snippet = client.snippet(launch, values)
    file = _file(client, machine, values)
    if file is None:
        would = "Nothing would be written. This is to be pasted" if dry_run else "Paste this"
        return f"{would} into {client.place}:\n\n{snippet}\n{_advice(client, values)}{_about_ledger(client, machine)}"
    wanted, unset = (client.document(launch, each)[file.container][KEY] for each in (values, Values()))

    def renew(held: Document | None) -> Document:
        return wanted if held is None else renewed(held, wanted, values, references=unset[env_of(unset)])

    try:
        if dry_run:
            return f"{_plan(client, machine, file, renew)}\n\n{snippet}{_about_ledger(client, machine)}"
        done = _add(client, machine, file, renew)
    except FileProblem as problem:
        paste = f"Paste this into {client.place} yourself:\n\n{snippet}"
        raise FileProblem(problem.parts, *(problem.advice or (Do(paste),))) from None
    beside = f"{_advice(client, values)}{_about_ledger(client, machine)}"
    return f"{client.title}: {done} Restart it to see the tools.\n{beside}"


def uninstall(client: Client, machine: Machine, *, dry_run: bool = False) -> str:
    """Take the server out of a client; says what was done. Raises FileProblem where it cannot."""
    by_hand = f'To do it yourself, delete "{KEY}" in {client.place}.'
    file = _file(client, machine, Values())
    if file is None:
        return by_hand
    try:
        return f"{client.title}: {_remove(client, machine, file, dry_run=dry_run)}"
    except FileProblem as problem:
        raise FileProblem(problem.parts, *(problem.advice or (Do(by_hand),))) from None


def _file(client: Client, machine: Machine, values: Values) -> ClientFile | None:
    """The file in which a client keeps its servers, of those that are read and merged here."""
    home, environ = machine.home, machine.environ
    match client.name:
        case "claude-desktop":
            return ClientFile(machine.configuration / "Claude" / "claude_desktop_config.json")
        case "claude-code":
            return ClientFile(Path(environ.get("CLAUDE_CONFIG_DIR") or home) / ".claude.json")
        case "vscode":
            path = machine.configuration / "Code" / "User" / "mcp.json"
            return ClientFile(path, "servers", vscode_inputs(values))
        case "cursor":
            return ClientFile(home / ".cursor" / "mcp.json")
        case "windsurf":
            return ClientFile(home / ".codeium" / "windsurf" / "mcp_config.json")
        case "codex":
            return CodexFile(Path(environ.get("CODEX_HOME") or home / ".codex") / "config.toml")
        case "copilot-cli":
            return ClientFile(Path(environ.get("COPILOT_HOME") or home / ".copilot") / "mcp-config.json")
        case "cline":
            return ClientFile(home / ".cline" / "data" / "settings" / "cline_mcp_settings.json")
        case "qwen-code":
            return ClientFile(home / ".qwen" / "settings.json")
        case "opencode":
            folder = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "opencode"
            plain = folder / "opencode.json"
            return ClientFile(plain if plain.exists() else folder / "opencode.jsonc", "mcp")
        case "gemini-cli":
            return ClientFile(Path(environ.get("GEMINI_CLI_HOME") or home) / ".gemini" / "settings.json")
        case _:
            return None


def _add(client: Client, machine: Machine, file: ClientFile, renew: Renew) -> str:
    command = add_command(client, renew(None), file.questions)
    if command is None:
        _require(client, file.path.parent)
        return file.add(renew)
    if file.ours() is not None:
        return file.change(renew)
    run(command, client, machine)
    done = f"Added with {command[0]}."
    return _forwarding(done, file, renew) if isinstance(file, CodexFile) else done


def _forwarding(done: str, file: CodexFile, renew: Renew) -> str:
    """Codex's command has no way to forward variables, so that line is put into its file afterwards."""
    try:
        file.change(renew)
    except FileProblem as problem:
        raise FileProblem(f"{done} But it is not told to forward the variables: {problem.message}") from None
    return f"{done} It is handed the key and the other variables from Codex's environment."


def _plan(client: Client, machine: Machine, file: ClientFile, renew: Renew) -> str:
    held = file.ours()
    command = add_command(client, renew(None), file.questions)
    if held is None and command is not None:
        return f"This would be run:\n\n{shown(command, machine)}\n\nWhat {client.title} then holds:"
    if held is not None and renew(held) == held:
        return f"It is already in {file.path}: nothing would be changed. This is what is written where there is none:"
    file.refuse_read_only()
    file.check(renew)
    if held is None:
        return f"This would be added to {file.path}:"
    return f"It is in {file.path}, and would be changed to this; what was added to it by hand is kept:"


def _remove(client: Client, machine: Machine, file: ClientFile, *, dry_run: bool) -> str:
    command = remove_command(client)
    if file.ours() is None:
        return f"It is not in {file.path}."
    if dry_run and command is not None:
        return f"This would be run:\n\n{shown(command, machine)}"
    if dry_run:
        file.refuse_read_only()
        return f'"{KEY}" would be taken out of {file.path}.'
    if command is None:
        return file.remove()
    run(command, client, machine)
    return f"Removed with {command[0]}."


def _require(client: Client, folder: Path) -> None:
    try:
        exists = folder.is_dir()
    except OSError as error:
        raise FileProblem(f"{folder} cannot be looked into ({error.strerror}).") from None
    if not exists:
        raise FileProblem(f"{client.title} was not found: there is no folder {folder}.")


def _advice(client: Client, values: Values) -> str:
    """What is still to be done: the gateway's address and its key."""
    if uses_sandbox(values):
        return "It uses the sandbox, which needs no key."
    if values.login is not None:
        return f"It uses the login for {values.login}; the key stands in no file of the client's."
    if client.references or "SORA_BASE_URL" in values:
        return client.key
    return (
        f"SORA_BASE_URL is not set here: set it (`sandbox`, or the gateway's address) and run this again. {client.key}"
    )


def _about_ledger(client: Client, machine: Machine) -> str:
    """What has to be done by hand where the ledger is in PostgreSQL: the address holds a password."""
    name = variable_of("ledger_url")
    if not machine.environ.get(name, "").strip():
        return ""
    return (
        f"\n{name} is set here, and is written into no file: it holds a password. Set it in the environment in which"
        f" {client.title} starts, or its server keeps a ledger of its own."
    )
