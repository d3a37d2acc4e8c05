"""Packages for hosts' own installers: a bundle for Claude Desktop, a plugin, an extension, an image."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sora_mcp import __version__, tools
from sora_mcp.config.variables import Variable, variables
from sora_mcp.distribution.manifests.formats import to_json, to_yaml
from sora_mcp.distribution.manifests.product import (
    AUTHOR,
    DESCRIPTION,
    KEY,
    KEYWORDS,
    LICENSE,
    NAME,
    PUBLISHED,
    REPOSITORY,
    REQUIREMENT,
    TITLE,
    Document,
)

_PYTHON = ">=3.11"
_FIELD_TYPES = {"filepath": "directory", "number": "number", "boolean": "boolean"}
"""A setting's format → the type of its form field in Claude Desktop and Claude Code; others are texts."""


def files() -> dict[str, str]:
    """Return all files of the bundles by their path in `manifests/`."""
    return {
        "mcpb/manifest.json": to_json(mcpb()),
        "mcpb/pyproject.toml": _MCPB_PROJECT,
        "mcpb/server.py": _MCPB_SERVER,
        "claude-plugin/.claude-plugin/plugin.json": to_json(claude_plugin()),
        "claude-plugin/.claude-plugin/marketplace.json": to_json(claude_marketplace()),
        "gemini-extension.json": to_json(gemini_extension()),
        "Dockerfile": DOCKERFILE,
        "docker/server.yaml": to_yaml(docker_server()),
        "docker/tools.json": to_json(docker_tools()),
    }


_MCPB_PROJECT = f"""\
[project]
name = "{NAME}-bundle"
version = "{__version__}"
requires-python = "{_PYTHON}"
dependencies = ["{REQUIREMENT}"]
"""

_MCPB_SERVER = '''\
"""Starts the server in the environment that the host made from pyproject.toml."""

from sora_mcp.__main__ import main

main()
'''


def mcpb() -> Document:
    """Return Claude Desktop's bundle (MCPB 0.4). The host asks for the settings, and stores the key in the keychain.

    `mcp_config` is required, although its documentation calls it optional.
    """
    start = ["run", "--directory", "${__dirname}", "server.py"]
    return {
        "manifest_version": "0.4",
        "name": NAME,
        "display_name": TITLE,
        "version": __version__,
        "description": DESCRIPTION,
        "author": AUTHOR,
        "license": LICENSE,
        "keywords": KEYWORDS,
        "server": {
            "type": "uv",
            "entry_point": "server.py",
            "mcp_config": {"command": "uv", "args": start, "env": _user_config(variables())},
        },
        "tools": [{"name": tool.name, "description": tool.description} for tool in tools.TOOLS],
        "compatibility": {"platforms": ["darwin", "win32", "linux"], "runtimes": {"python": _PYTHON}},
        "user_config": {variable.field: _form_field(variable) for variable in variables()},
    }


def claude_plugin() -> Document:
    """Return Claude Code's plugin. It asks for the required settings; the others come from the environment."""
    required = [variable for variable in variables() if variable.required]
    return {
        "name": KEY,
        "version": __version__,
        "description": DESCRIPTION,
        "author": AUTHOR,
        "license": LICENSE,
        "keywords": KEYWORDS,
        "mcpServers": {
            KEY: {"command": PUBLISHED.command, "args": list(PUBLISHED.args), "env": _user_config(required)},
        },
        "userConfig": {variable.field: _form_field(variable) for variable in required},
    }


def claude_marketplace() -> Document:
    """Return a marketplace with this one plugin, so that it can be installed from its folder or repository."""
    return {
        "name": NAME,
        "owner": AUTHOR,
        "metadata": {"description": DESCRIPTION},
        "plugins": [{"name": KEY, "source": "./", "description": DESCRIPTION}],
    }


def gemini_extension() -> Document:
    """Return Gemini CLI's extension. It asks for the required settings, and stores the key in the keychain."""
    required = [variable for variable in variables() if variable.required]
    env = {variable.name: f"${{{variable.name}}}" for variable in required}
    return {
        "name": NAME,
        "version": __version__,
        "description": DESCRIPTION,
        "mcpServers": {KEY: {"command": PUBLISHED.command, "args": list(PUBLISHED.args), "env": env}},
        "settings": [
            {
                "name": _title(variable),
                "description": variable.description,
                "envVar": variable.name,
                "sensitive": variable.secret,
            }
            for variable in required
        ],
    }


DOCKERFILE = """\
# Built from the source it lies in, at the repository's root: docker build -f manifests/Dockerfile -t sora-mcp .
FROM python:3.13-slim AS program
COPY pyproject.toml README.md LICENSE /source/
COPY sora_mcp /source/sora_mcp
RUN pip install --no-cache-dir '/source[media,metrics,postgres]' && rm -r /source \\
    && useradd --uid 10001 --create-home sora && install -d -o sora /data /data/videos
USER sora
ENV SORA_HOME=/data SORA_OUTPUT_DIR=/data/videos
VOLUME /data
ENTRYPOINT ["sora-mcp"]

# A team's server over HTTP: docker build --target server. Its root can be read-only: it writes to /data and /tmp.
FROM program AS server
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "from http.client import HTTPConnection as C; \\
c = C('127.0.0.1', 8000, timeout=5); c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]
CMD ["serve", "--transport", "streamable-http", "--host", "0.0.0.0", "--port", "8000"]

# One person's server over stdin and stdout: what is built where no target is named.
FROM program
"""
"""From source rather than from the package registry: it works before anything is published."""


def docker_server() -> Document:
    """Return the entry in Docker's catalog. Its submitter adds `source.commit`, the commit that was reviewed."""
    plain = [v for v in variables() if not v.secret and v.format != "filepath"]
    return {
        "name": NAME,
        "image": f"mcp/{NAME}",
        "type": "server",
        "meta": {"category": "media", "tags": KEYWORDS},
        "about": {"title": TITLE, "description": DESCRIPTION},
        "source": {"project": REPOSITORY, "dockerfile": "manifests/Dockerfile"},
        "run": {"volumes": [f"{{{{{NAME}.folder}}}}:/data"]},
        "config": {
            "description": "The gateway, its key, and the folder that the record and the videos are kept in.",
            "secrets": [
                {"name": f"{NAME}.{v.field}", "env": v.name, "example": f"<{v.name}>"} for v in variables() if v.secret
            ],
            "env": [{"name": v.name, "example": v.default, "value": f"{{{{{NAME}.{v.field}}}}}"} for v in plain],
            "parameters": {
                "type": "object",
                "properties": {
                    "folder": {
                        "type": "string",
                        "description": "Folder on this machine for the record and videos.",
                    },
                    **{v.field: {"type": "string", "description": v.description} for v in plain},
                },
                "required": ["folder", *(v.field for v in plain if v.required)],
            },
        },
    }


def docker_tools() -> list[Document]:
    """Return the tools for Docker's catalog, so that it can list them without starting the server."""
    return [
        {
            "name": tool.name,
            "description": tool.description,
            "arguments": [
                {"name": name, "type": schema["type"], "desc": schema.get("description", "")}
                for name, schema in tool.input_schema["properties"].items()
            ],
        }
        for tool in tools.TOOLS
    ]


def _user_config(requested: Iterable[Variable]) -> dict[str, str]:
    return {variable.name: f"${{user_config.{variable.field}}}" for variable in requested}


def _form_field(variable: Variable) -> Document:
    """Return a setting as a field of the form in which a host asks for it."""
    field_type = _FIELD_TYPES.get(variable.format, "string")
    entry: Document = {
        "type": field_type,
        "title": _title(variable),
        "description": variable.description,
        "required": variable.required,
        "sensitive": variable.secret,
    }
    if variable.default:
        entry["default"] = json.loads(variable.default) if field_type in {"number", "boolean"} else variable.default
    return entry


def _title(variable: Variable) -> str:
    return variable.field.replace("_", " ").capitalize()
