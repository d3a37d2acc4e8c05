"""Installing the server in a client, and uninstalling it.

By the client's own command if it has one (`commands`), by merging its file if that is plain JSON (`files`), otherwise
by a snippet to paste. The file is always read first: another server with our name is left alone, and our entry keeps
what a person added to it (`own_entry`), which the command would overwrite. No key is ever written:
`manifests.clients` says how each client gets it.
"""

from __future__ import annotations

from pathlib import Path

from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem
from sora_mcp.distribution.install.commands import add_command, format_command, remove_command, run
from sora_mcp.distribution.install.files import ClientFile, CodexFile, OtherServer, Renew
from sora_mcp.distribution.install.machine import Machine
from sora_mcp.distribution.install.own_entry import env_key, merged
from sora_mcp.distribution.manifests.clients import Client, Values, uses_sandbox, vscode_inputs
from sora_mcp.distribution.manifests.product import KEY, Document, Launch


def install(client: Client, machine: Machine, launch: Launch, *, dry_run: bool = False) -> str:
    """Add the server to a client; return what was done. Raises FileProblem with the snippet to paste if it cannot."""
    values = machine.plain_settings
    snippet = client.snippet(launch, values)
    file = _file(client, machine, values)
    if file is None:
        would = "Nothing would be written. This is to be pasted" if dry_run else "Paste this"
        return f"{would} into {client.place}:\n\n{snippet}\n{_advice(client, values)}{_ledger_advice(client, machine)}"
    wanted, unset = (client.document(launch, each)[file.container][KEY] for each in (values, Values()))

    def renew(current: Document | None) -> Document:
        return wanted if current is None else merged(current, wanted, values, references=unset[env_key(unset)])

    try:
        if dry_run:
            return f"{_plan(client, machine, file, renew)}\n\n{snippet}{_ledger_advice(client, machine)}"
        done = _add(client, machine, file, renew)
    except FileProblem as problem:
        paste = f"Paste this into {client.place} yourself:\n\n{snippet}"
        raise FileProblem(problem.parts, *(problem.advice or (Do(paste),))) from None
    advice = f"{_advice(client, values)}{_ledger_advice(client, machine)}"
    return f"{client.title}: {done} Restart it to see the tools.\n{advice}"


def uninstall(client: Client, machine: Machine, *, dry_run: bool = False) -> str:
    """Remove the server from a client; return what was done. Raises FileProblem if it cannot."""
    manual = f'To do it yourself, delete "{KEY}" in {client.place}.'
    file = _file(client, machine, Values())
    if file is None:
        return manual
    try:
        return f"{client.title}: {_remove(client, machine, file, dry_run=dry_run)}"
    except OtherServer as problem:
        raise FileProblem(problem.parts, Do("This server is not in it: there is nothing to remove.")) from None
    except FileProblem as problem:
        raise FileProblem(problem.parts, *(problem.advice or (Do(manual),))) from None


def _file(client: Client, machine: Machine, values: Values) -> ClientFile | None:
    """Return the file in which a client stores its servers, or None if it is not one that can be merged."""
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
        _require_folder(client, file.path.parent)
        return file.add(renew)
    if file.own_entry() is not None:
        return file.change(renew)
    run(command, client, machine)
    done = f"Added with {command[0]}."
    return _forward_variables(done, file, renew) if isinstance(file, CodexFile) else done


def _forward_variables(done: str, file: CodexFile, renew: Renew) -> str:
    """Codex's command cannot forward variables, so add that line to its file afterwards."""
    try:
        file.change(renew)
    except FileProblem as problem:
        raise FileProblem(f"{done} But its entry does not forward the variables: {problem.message}") from None
    return f"{done} Codex passes the key and the other variables on from its own environment."


def _plan(client: Client, machine: Machine, file: ClientFile, renew: Renew) -> str:
    current = file.own_entry()
    command = add_command(client, renew(None), file.questions)
    if current is None and command is not None:
        return f"This would be run:\n\n{format_command(command, machine)}\n\nWhat {client.title} then holds:"
    if current is not None and renew(current) == current:
        return f"It is already in {file.path}: nothing would be changed. A new entry would be:"
    file.check_writable()
    file.check(renew)
    if current is None:
        return f"This would be added to {file.path}:"
    return f"It is in {file.path}, and would be changed to this; your own additions to it are kept:"


def _remove(client: Client, machine: Machine, file: ClientFile, *, dry_run: bool) -> str:
    command = remove_command(client)
    if file.own_entry() is None:
        return f"It is not in {file.path}."
    if dry_run and command is not None:
        return f"This would be run:\n\n{format_command(command, machine)}"
    if dry_run:
        file.check_writable()
        return f'"{KEY}" would be removed from {file.path}.'
    if command is None:
        return file.remove()
    run(command, client, machine)
    return f"Removed with {command[0]}."


def _require_folder(client: Client, folder: Path) -> None:
    try:
        exists = folder.is_dir()
    except OSError as error:
        raise FileProblem(f"{folder} cannot be read ({error.strerror}).") from None
    if not exists:
        raise FileProblem(f"{client.title} was not found: there is no folder {folder}.")


def _advice(client: Client, values: Values) -> str:
    """Return what is still to be done about the gateway's address and its key."""
    if uses_sandbox(values):
        return "It uses the sandbox, which needs no key."
    if values.login is not None:
        return f"It uses the login for {values.login}; the key is not in any of the client's files."
    if client.references or "SORA_BASE_URL" in values:
        return client.key
    return (
        f"SORA_BASE_URL is not set here: set it (`sandbox`, or the gateway's address) and run this again. {client.key}"
    )


def _ledger_advice(client: Client, machine: Machine) -> str:
    """Return what has to be done by hand if the ledger is in PostgreSQL: its address holds a password."""
    name = variable_of("ledger_url")
    if not machine.environ.get(name, "").strip():
        return ""
    return (
        f"\n{name} is set here but is not written to any file, because it contains a password. Set it in the "
        f"environment in which {client.title} starts, or its server keeps a ledger of its own."
    )
