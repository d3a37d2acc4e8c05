"""Each client's configuration of the server, and the links that install it with one click.

A file never contains a key: the client resolves a reference to it, asks for it, or, if it can do neither, leaves it to
the person. Sources: each client's own documentation of its configuration file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote, urlencode

from msgspec import Struct

from sora_mcp import __version__
from sora_mcp.config.variables import Variable, variables
from sora_mcp.distribution.manifests.formats import to_json, to_toml, to_yaml
from sora_mcp.distribution.manifests.product import DESCRIPTION, KEY, PUBLISHED, TITLE, Document, Launch


class Values(dict[str, str]):
    """Non-secret settings whose values are written as they are, by variable.

    `login`: the address of the login that supplies the key, if no other address has to be set.
    """

    login: str | None = None


SANDBOX = Values({"SORA_BASE_URL": "sandbox"})

_UVX_TIMEOUT_S = 60
"""Codex's default is 10 seconds to start; the first start with uvx or pipx downloads or builds the package."""

_CLINE_TIMEOUT_S = 60
"""Cline's own timeout of a call varies; a wait takes up to 50 seconds."""


class Client(Struct, frozen=True):
    """One client. `place`: where a person pastes its snippet; `key`: how it gets the gateway's key.

    `references`: whether its file can name a variable instead of holding its value.
    """

    name: str
    title: str
    place: str
    key: str
    document: Callable[[Launch, Values], Document]
    format: Literal["json", "toml", "yaml"] = "json"
    references: bool = True

    def snippet(self, launch: Launch, values: Values) -> str:
        """Return the configuration as text, in the client's format."""
        document = self.document(launch, values)
        return {"json": to_json, "toml": to_toml, "yaml": to_yaml}[self.format](document)

    def published(self) -> str:
        """Return the snippet for the published package. If nothing can be referenced, it names the sandbox."""
        return self.snippet(PUBLISHED, Values() if self.references else SANDBOX)


def uses_sandbox(values: Values) -> bool:
    return values.get("SORA_BASE_URL", "").lower() == "sandbox"


def _required(values: Values) -> list[Variable]:
    """Return the settings that a client has to get in its own way; the sandbox needs no key, and a login has one."""
    if uses_sandbox(values) or values.login is not None:
        return []
    return [variable for variable in variables() if variable.required and variable.name not in values]


def _env(values: Values, reference: str | None) -> dict[str, str]:
    references = {v.name: reference % v.name for v in _required(values)} if reference else {}
    return {**values, **references}


def _entry(launch: Launch, values: Values, reference: str | None) -> Document:
    return {"command": launch.command, "args": list(launch.args), "env": _env(values, reference)}


def _mcp_servers(reference: str | None) -> Callable[[Launch, Values], Document]:
    return lambda launch, values: {"mcpServers": {KEY: _entry(launch, values, reference)}}


def _claude_code(launch: Launch, values: Values) -> Document:
    return {"mcpServers": {KEY: {"type": "stdio", **_entry(launch, values, CLAUDE_REFERENCE)}}}


CLAUDE_REFERENCE = "${%s:-}"
"""With an empty default, so that Claude Code does not warn about a key that the sandbox does not need."""


def _input_id(variable: Variable) -> str:
    return f"{KEY}-{variable.field.replace('_', '-')}"


def vscode_entry(launch: Launch, values: Values) -> Document:
    env = {**values, **{v.name: f"${{input:{_input_id(v)}}}" for v in _required(values)}}
    return {"type": "stdio", "command": launch.command, "args": list(launch.args), "env": env}


def vscode_inputs(values: Values) -> list[Document]:
    return [
        {"type": "promptString", "id": _input_id(v), "description": v.description, "password": v.secret}
        for v in _required(values)
    ]


def _vscode(launch: Launch, values: Values) -> Document:
    return {"inputs": vscode_inputs(values), "servers": {KEY: vscode_entry(launch, values)}}


def _zed(launch: Launch, values: Values) -> Document:
    return {"context_servers": {KEY: _entry(launch, values, None)}}


def forwarded_variables(values: Values) -> list[str]:
    """Return the variables that Codex has to forward: all except those in its file."""
    return [variable.name for variable in variables() if variable.name not in values]


def _codex(launch: Launch, values: Values) -> Document:
    server: Document = {"command": launch.command, "args": list(launch.args), "env_vars": forwarded_variables(values)}
    if not launch.is_installed:
        server["startup_timeout_sec"] = _UVX_TIMEOUT_S
    return {"mcp_servers": {KEY: {**server, "env": dict(values)}}}


def _goose(launch: Launch, values: Values) -> Document:
    extension = {
        "enabled": True,
        "type": "stdio",
        "name": KEY,
        "description": DESCRIPTION,
        "cmd": launch.command,
        "args": list(launch.args),
        "envs": dict(values),
        "env_keys": [variable.name for variable in _required(values)],
        "timeout": 300,
    }
    return {"extensions": {KEY: extension}}


def _opencode(launch: Launch, values: Values) -> Document:
    server = {
        "type": "local",
        "command": [launch.command, *launch.args],
        "environment": _env(values, "{env:%s}"),
        "enabled": True,
    }
    return {"$schema": "https://opencode.ai/config.json", "mcp": {KEY: server}}


def _cline(launch: Launch, values: Values) -> Document:
    return {"mcpServers": {KEY: {**_entry(launch, values, None), "timeout": _CLINE_TIMEOUT_S}}}


def _continue(launch: Launch, values: Values) -> Document:
    env = {
        name: value if name in values else f"${{{{ secrets.{name} }}}}" for name, value in _env(values, "%s").items()
    }
    server = {"name": KEY, "type": "stdio", "command": launch.command, "args": list(launch.args), "env": env}
    return {"name": TITLE, "version": __version__, "schema": "v1", "mcpServers": [server]}


_FROM_ENVIRONMENT = (
    "{title} takes the key from the variable SORA_API_KEY of the environment it is started in, or from "
    "`sora-mcp login`."
)

_LOGIN_ADVICE = (
    "run `sora-mcp login`, which keeps the key where only you can read it. (Or add SORA_API_KEY to `env` by hand, "
    "readable to whoever reads the file.)"
)

CLIENTS: tuple[Client, ...] = (
    Client(
        "claude-desktop",
        "Claude Desktop",
        "claude_desktop_config.json (Settings, Developer, Edit Config)",
        f"Claude Desktop passes no variables on, and its file cannot name one: {_LOGIN_ADVICE}",
        _mcp_servers(None),
        references=False,
    ),
    Client(
        "claude-code",
        "Claude Code",
        "~/.claude.json, or .mcp.json in a project's folder",
        _FROM_ENVIRONMENT.format(title="Claude Code"),
        _claude_code,
    ),
    Client(
        "vscode",
        "VS Code",
        "mcp.json (MCP: Open User Configuration) or .vscode/mcp.json",
        "VS Code asks for the key once and stores it safely.",
        _vscode,
    ),
    Client(
        "cursor",
        "Cursor",
        "~/.cursor/mcp.json or .cursor/mcp.json",
        _FROM_ENVIRONMENT.format(title="Cursor"),
        _mcp_servers("${env:%s}"),
    ),
    Client(
        "windsurf",
        "Windsurf",
        "~/.codeium/windsurf/mcp_config.json",
        _FROM_ENVIRONMENT.format(title="Windsurf"),
        _mcp_servers("${env:%s}"),
    ),
    Client(
        "zed",
        "Zed",
        "settings.json (zed: open settings file)",
        _FROM_ENVIRONMENT.format(title="Zed"),
        _zed,
    ),
    Client(
        "codex",
        "Codex",
        "~/.codex/config.toml",
        _FROM_ENVIRONMENT.format(title="Codex"),
        _codex,
        format="toml",
    ),
    Client(
        "gemini-cli",
        "Gemini CLI",
        "~/.gemini/settings.json",
        _FROM_ENVIRONMENT.format(title="Gemini CLI"),
        _mcp_servers("${%s}"),
    ),
    Client(
        "copilot-cli",
        "Copilot CLI",
        "~/.copilot/mcp-config.json",
        _FROM_ENVIRONMENT.format(title="Copilot CLI"),
        _mcp_servers("${%s}"),
    ),
    Client(
        "goose",
        "Goose",
        "~/.config/goose/config.yaml",
        "Goose takes the key from its own keyring, from the variable SORA_API_KEY, or from `sora-mcp login`.",
        _goose,
        format="yaml",
    ),
    Client(
        "lm-studio",
        "LM Studio",
        "mcp.json (Program, Install, Edit mcp.json)",
        f"LM Studio documents no way to name a variable: {_LOGIN_ADVICE}",
        _mcp_servers(None),
        references=False,
    ),
    Client(
        "opencode",
        "opencode",
        "opencode.json or ~/.config/opencode/opencode.json",
        _FROM_ENVIRONMENT.format(title="opencode"),
        _opencode,
    ),
    Client(
        "qwen-code",
        "Qwen Code",
        "~/.qwen/settings.json",
        _FROM_ENVIRONMENT.format(title="Qwen Code"),
        _mcp_servers("${%s}"),
    ),
    Client(
        "cline",
        "Cline",
        "~/.cline/data/settings/cline_mcp_settings.json",
        f"Cline documents no way to name a variable: {_LOGIN_ADVICE}",
        _cline,
        references=False,
    ),
    Client(
        "continue",
        "Continue",
        "a file of its own in ~/.continue/mcpServers, or `mcpServers` of ~/.continue/config.yaml",
        "Continue takes the key from its secrets (SORA_API_KEY in ~/.continue/.env), or from `sora-mcp login`.",
        _continue,
        format="yaml",
    ),
)

BY_NAME = {client.name: client for client in CLIENTS}


def links() -> dict[str, str]:
    """Return links that install the published package, by client. The client asks before it adds anything."""
    return {
        "cursor": f"cursor://anysphere.cursor-deeplink/mcp/install?{_query(_entry(PUBLISHED, Values(), '${env:%s}'))}",
        "vscode": "vscode:mcp/install?" + quote(_compact(_vscode_link()), safe=""),
        "lm-studio": f"lmstudio://add_mcp?{_query(_entry(PUBLISHED, SANDBOX, None))}",
        "goose": "goose://extension?" + urlencode(_goose_link(), quote_via=quote),
    }


def _vscode_link() -> Document:
    return {"name": KEY, **vscode_entry(PUBLISHED, Values()), "inputs": vscode_inputs(Values())}


def _goose_link() -> list[tuple[str, str]]:
    return [
        ("cmd", PUBLISHED.command),
        *(("arg", arg) for arg in PUBLISHED.args),
        ("id", KEY),
        ("name", TITLE),
        ("description", DESCRIPTION),
        *(("env", f"{variable.name}={variable.description}") for variable in _required(Values())),
    ]


def _query(entry: Document) -> str:
    config = base64.b64encode(_compact(entry).encode()).decode("ascii")
    return urlencode({"name": KEY, "config": config})


def _compact(value: Document) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
