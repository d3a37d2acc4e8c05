"""Stand-in for a client's program: it logs its calls, and stores servers as the real one was observed to.

Claude Code 2.1.197, Gemini CLI 0.61.0, Codex 0.169.0, Copilot CLI 1.0.102, Qwen Code 0.15.10, opencode 1.18.33; VS Code
by its documentation.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

HOME = Path(os.environ["HOME"])
FILES = {
    "claude": (HOME / ".claude.json", "mcpServers"),
    "gemini": (HOME / ".gemini" / "settings.json", "mcpServers"),
    "codex": (HOME / ".codex" / "config.toml", "mcp_servers"),
    "copilot": (HOME / ".copilot" / "mcp-config.json", "mcpServers"),
    "qwen": (HOME / ".qwen" / "settings.json", "mcpServers"),
    "opencode": (HOME / ".config" / "opencode" / "opencode.jsonc", "mcp"),
    "code": (HOME / ".config" / "Code" / "User" / "mcp.json", "servers"),
}


def main(name: str, *arguments: str) -> None:
    with (HOME / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    file, container = FILES[name]
    text = file.read_text() if file.exists() else ""
    document: dict[str, Any] = (tomllib.loads(text) if name == "codex" else json.loads(text)) if text else {}
    servers = document.setdefault(container, {})
    match arguments:
        case ["mcp", "remove", *_]:
            del servers["sora"]
        case ["mcp", "add", *_] if name == "claude" and "sora" in servers:
            sys.exit("MCP server sora already exists in user config")
        case ["mcp", "add", *rest] if name == "opencode":
            server_json = entry(rest)
            command = [server_json["command"], *server_json["args"]]
            servers["sora"] = {"type": "local", "command": command, "environment": server_json["env"]}
        case ["mcp", "add", *rest]:
            servers["sora"] = entry(rest)
        case ["--add-mcp", server_json]:
            servers["sora"] = json.loads(server_json)
            document.setdefault("inputs", []).extend(servers["sora"].pop("inputs"))
            del servers["sora"]["name"]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(toml(servers) if name == "codex" else json.dumps(document, indent=2))


def entry(rest: list[str]) -> dict[str, Any]:
    """The server passed to `mcp add`, in any order of arguments."""
    env = dict(word.split("=", 1) for before, word in pairwise(rest) if before == "--env")
    bare = [word for i, word in enumerate(rest) if word not in {"--", "--env"} and rest[i - 1] != "--env"]
    command, *args = bare[bare.index("sora") + 1 :]
    return {"command": command, "args": args, "env": env}


def toml(servers: dict[str, Any]) -> str:
    lines = ["# mine"]
    for name, server in servers.items():
        lines += [
            f"[mcp_servers.{name}]",
            *(f"{key} = {json.dumps(server[key])}" for key in server if key != "env"),
            "",
        ]
        env = server.get("env", {})
        lines += [f"[mcp_servers.{name}.env]", *(f"{key} = {json.dumps(env[key])}" for key in env), ""] if env else []
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]).name, *sys.argv[2:])
