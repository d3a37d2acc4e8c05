"""Machines to install on: a folder in which everything lies, clients' files, and programs that stand in for clients."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sora_mcp.install.machine import Machine
from sora_mcp.manifests.product import Launch

LOCAL = Launch("/opt/venv/bin/sora-mcp")
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
    """Put a client's program in place: it keeps what it is told, or fails (a shell's words)."""
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


def everything(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
