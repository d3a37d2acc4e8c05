"""What is generated from the tools and the settings: manifests, the published surface, README's tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from sora_mcp import __version__, tools
from sora_mcp.errors import FileProblem
from sora_mcp.settings import Settings

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
                "environmentVariables": [_variable(name, field) for name, field in Settings.model_fields.items()],
            }
        ],
    }


def mcp_json() -> dict[str, Any]:
    """A project's `.mcp.json`: the key stays in the environment; an unset variable counts as missing."""
    env = {name: f"${{{name}}}" for name in ("SORA_BASE_URL", "SORA_API_KEY")}
    return {"mcpServers": {"sora": {"type": "stdio", "command": "sora-mcp", "args": [], "env": env}}}


def _variable(name: str, field: FieldInfo) -> dict[str, Any]:
    variable: dict[str, Any] = {
        "name": f"SORA_{name.upper()}",
        "description": field.description,
        "isRequired": name in {"base_url", "api_key"},
        "isSecret": SecretStr in get_args(field.annotation),
        "format": _format(field.annotation),
    }
    default = _default(field)
    if default:
        variable["default"] = default
    if get_origin(field.annotation) is Literal:
        variable["choices"] = list(get_args(field.annotation))
    return variable


def _format(annotation: object) -> str:
    if annotation is Path:
        return "filepath"
    return "number" if annotation in {int, float} else "string"


def _default(field: FieldInfo) -> str:
    return "" if field.default in {None, ()} or field.default_factory is not None else str(field.default)


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
    rows = [
        f"| `SORA_{name.upper()}` | {f'`{_default(field)}`' if _default(field) else ''} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return "| variable | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
