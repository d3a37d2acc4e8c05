"""The MCP registry's `server.json` (schema 2025-12-11)."""

from __future__ import annotations

from sora_mcp import __version__
from sora_mcp.config.variables import Variable, variables
from sora_mcp.distribution.manifests.product import DESCRIPTION, NAME, REGISTRY_NAME, TITLE, Document


def server_json() -> Document:
    return {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": REGISTRY_NAME,
        "title": TITLE,
        "description": DESCRIPTION,
        "version": __version__,
        "packages": [
            {
                "registryType": "pypi",
                "identifier": NAME,
                "version": __version__,
                "runtimeHint": "uvx",
                "transport": {"type": "stdio"},
                "environmentVariables": [_environment_variable(variable) for variable in variables()],
            }
        ],
    }


def _environment_variable(variable: Variable) -> Document:
    entry: Document = {
        "name": variable.name,
        "description": variable.description,
        "isRequired": variable.required,
        "isSecret": variable.secret,
        "format": variable.format,
    }
    if variable.default:
        entry["default"] = variable.default
    if variable.choices:
        entry["choices"] = list(variable.choices)
    return entry
