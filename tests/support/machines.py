"""Machines to install on: a folder with everything, clients' files, and stand-ins for clients' programs."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from sora_mcp.distribution.install.machine import Machine
from sora_mcp.distribution.manifests.product import Launch

LOCAL = Launch("/opt/venv/bin/sora-mcp")
FETCHED = Launch("/opt/bin/uvx", ("--from", "sora-mcp[media] @ file:///src", "sora-mcp"))
MOVED = Launch("/elsewhere/bin/sora-mcp")
KEY = "sk-canary-0123456789"
GATEWAY = {"SORA_BASE_URL": "https://gateway.example", "SORA_API_KEY": KEY}

LAYOUTS = {
    ("claude-desktop", "darwin"): "Library/Application Support/Claude/claude_desktop_config.json",
    ("claude-desktop", "win32"): "AppData/Roaming/Claude/claude_desktop_config.json",
    ("claude-desktop", "linux"): ".config/Claude/claude_desktop_config.json",
    ("cursor", "darwin"): ".cursor/mcp.json",
    ("cursor", "win32"): ".cursor/mcp.json",
    ("cursor", "linux"): ".cursor/mcp.json",
    ("windsurf", "darwin"): ".codeium/windsurf/mcp_config.json",
    ("windsurf", "win32"): ".codeium/windsurf/mcp_config.json",
    ("windsurf", "linux"): ".codeium/windsurf/mcp_config.json",
}


def machine(home: Path, platform: str = "linux", **environ: str) -> Machine:
    return Machine(platform, home, {"HOME": str(home), "PATH": str(home / "bin"), **environ})


def program(home: Path, name: str, *, failing: str = "") -> None:
    """Install a client's program: it stores its calls, or runs `failing` (shell commands)."""
    path = home / "bin" / name
    path.parent.mkdir(exist_ok=True)
    kept = f'exec "{sys.executable}" "{Path(__file__).with_name("client_program.py")}" "$0" "$@"'
    path.write_text(f"#!/bin/sh\n{failing or kept}\n")
    path.chmod(0o755)


def calls(home: Path) -> list[list[str]]:
    file = home / "calls.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def client_file(home: Path, name: str = "cursor", platform: str = "linux") -> Path:
    path = home / LAYOUTS[name, platform]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def all_files(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}


PROGRAMS = {
    "claude-code": "claude",
    "gemini-cli": "gemini",
    "codex": "codex",
    "vscode": "code",
    "copilot-cli": "copilot",
    "qwen-code": "qwen",
}
CLIENT_FILES = {
    "claude-code": (".claude.json", "mcpServers"),
    "gemini-cli": (".gemini/settings.json", "mcpServers"),
    "codex": (".codex/config.toml", "mcp_servers"),
    "vscode": (".config/Code/User/mcp.json", "servers"),
    "cursor": (".cursor/mcp.json", "mcpServers"),
    "copilot-cli": (".copilot/mcp-config.json", "mcpServers"),
    "qwen-code": (".qwen/settings.json", "mcpServers"),
    "cline": (".cline/data/settings/cline_mcp_settings.json", "mcpServers"),
    "opencode": (".config/opencode/opencode.jsonc", "mcp"),
}


def configured_server(home: Path, name: str) -> Any:
    """Our server in the client's configuration."""
    file, container = CLIENT_FILES[name]
    text = (home / file).read_text()
    return (tomllib.loads(text) if name == "codex" else json.loads(text)).get(container, {}).get("sora")


def configure_server(home: Path, name: str, **server: Any) -> None:
    """Write a server of our name into the client's configuration."""
    file, container = CLIENT_FILES[name]
    (home / file).parent.mkdir(parents=True, exist_ok=True)
    env = server.get("env", {})
    toml = "\n".join(
        [
            "# mine",
            "[mcp_servers.sora]",
            *(f"{key} = {json.dumps(value)}" for key, value in server.items() if key != "env"),
            "[mcp_servers.sora.env]",
            *(f"{key} = {json.dumps(value)}" for key, value in env.items()),
            "",
        ]
    )
    (home / file).write_text(toml if name == "codex" else json.dumps({container: {"sora": server}, "theme": "dark"}))
