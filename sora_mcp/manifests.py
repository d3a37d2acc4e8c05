"""What is generated from the tools and the settings: manifests, the published surface, README's tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sora_mcp import __version__, tools
from sora_mcp.errors import FileProblem
from sora_mcp.settings import Variable, variables

DESCRIPTION = "Lets agents make, remix, storyboard and blend videos at a Sora-format gateway."
REGISTRY_NAME = "io.github.OWNER/sora-mcp"
"""OWNER is filled in by whoever publishes; nothing is published yet."""


def write(folder: Path) -> None:
    """Write every generated file: into `folder`, and the tables into the README beside it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in _generated(folder).items():
            path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise FileProblem(f"{folder} cannot be written: {error.strerror}.", "Name another folder with --out.") from None


def drift(folder: Path) -> list[Path]:
    """The generated files that differ from what the code says."""
    return [
        path
        for path, text in _generated(folder).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def _generated(folder: Path) -> dict[Path, str]:
    found = {
        folder / "server.json": _json(server_json()),
        folder / ".mcp.json": _json(mcp_json()),
        folder / "tools.json": _json(tools.listing()),
    }
    readme = folder.absolute().parent / "README.md"
    if readme.is_file():
        found[readme] = _with_tables(readme.read_text(encoding="utf-8"))
    return found


def server_json() -> dict[str, Any]:
    """The MCP registry's manifest (schema 2025-12-11)."""
    return {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": REGISTRY_NAME,
        "title": "Sora videos",
        "description": DESCRIPTION,
        "version": __version__,
        "packages": [
            {
                "registryType": "pypi",
                "identifier": "sora-mcp",
                "version": __version__,
                "runtimeHint": "uvx",
                "transport": {"type": "stdio"},
                "environmentVariables": [_environment_variable(variable) for variable in variables()],
            }
        ],
    }


def mcp_json() -> dict[str, Any]:
    """A project's `.mcp.json`: the key stays in the environment; an unset variable counts as missing."""
    env = {name: f"${{{name}}}" for name in ("SORA_BASE_URL", "SORA_API_KEY")}
    return {"mcpServers": {"sora": {"type": "stdio", "command": "sora-mcp", "args": [], "env": env}}}


def _environment_variable(variable: Variable) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": variable.name,
        "description": variable.description,
        "isRequired": variable.required,
        "isSecret": variable.secret,
        "format": variable.format,
    }
    if variable.default:
        told["default"] = variable.default
    if variable.choices:
        told["choices"] = list(variable.choices)
    return told


def _with_tables(readme: str) -> str:
    for name, table in {"tools": _tool_table(), "settings": _settings_table()}.items():
        begin, end = f"<!-- {name}: generated -->\n", f"<!-- /{name} -->"
        before, _, rest = readme.partition(begin)
        _, found, after = rest.partition(end)
        if found:
            readme = before + begin + table + end + after
    return readme


def _tool_table() -> str:
    rows = [f"| `{tool.name}` | {'yes' if tool.paid else 'no'} | {tool.description} |\n" for tool in tools.TOOLS]
    return "| tool | costs | what it does |\n|---|---|---|\n" + "".join(rows)


def _settings_table() -> str:
    rows = [f"| `{v.name}` | {f'`{v.default}`' if v.default else ''} | {v.description} |\n" for v in variables()]
    return "| variable | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
