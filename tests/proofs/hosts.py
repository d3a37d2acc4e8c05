"""Host programs: our bundle and plugins in their own validators, our installer in their own lists, over stdio."""

from __future__ import annotations

import json
import re
from pathlib import Path

from model import Model, scripted_model
from workshop import PROJECT, SERVER, Failed, Report, Workshop

MCPB = "@anthropic-ai/mcpb@2.1.2"
CLAUDE_CODE = "@anthropic-ai/claude-code@2.1.197"
GEMINI_CLI = "@google/gemini-cli@0.61.0"
CODEX = "@openai/codex@0.169.0"
OPENCODE = "opencode-ai@1.18.33"
COPILOT_CLI = "@github/copilot@1.0.102"
MANIFESTS = PROJECT / "manifests"


def mcpb(shop: Workshop) -> Report:
    """The bundle for Claude Desktop."""
    npm, bundle = shop.npm(MCPB), shop.scratch / "sora.mcpb"
    shop.do("mcpb", "validate", MANIFESTS / "mcpb" / "manifest.json", npm=npm)
    shop.do("mcpb", "pack", MANIFESTS / "mcpb", bundle, npm=npm)
    shop.do("mcpb", "unpack", bundle, shop.scratch / "unpacked", npm=npm)
    packed = {path.name for path in (shop.scratch / "unpacked").iterdir()}
    if packed != {"manifest.json", "pyproject.toml", "server.py"}:
        raise Failed(f"the bundle holds {sorted(packed)}")
    return (), f"validate, pack ({len(packed)} files)"


def claude_code(shop: Workshop) -> Report:
    """The plugin, its marketplace, `sora-mcp install claude-code`, and a whole conversation with a scripted model."""
    npm, plugin = shop.npm(CLAUDE_CODE), MANIFESTS / "claude-plugin"
    for validated in (plugin, plugin / ".claude-plugin" / "plugin.json"):
        shop.do("claude", "plugin", "validate", "--strict", validated, npm=npm)
    _installed(shop, npm, "claude-code", ("claude", "mcp", "list"), "✔ Connected")
    shop.do(SERVER, "install", "claude-code", npm=npm)
    with scripted_model() as model:
        ask_claude(shop, npm, model)
    return (), f"plugin validate --strict, install, mcp list: Connected, uninstall; {conversation(model)}"


def ask_claude(shop: Workshop, npm: Path, model: Model) -> None:
    """Have Claude Code, which has our server, make a video with a scripted model."""
    shop.settings |= {
        "ANTHROPIC_BASE_URL": model.address.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": "none",
        "DISABLE_AUTOUPDATER": "1",
        "MCP_CONNECTION_NONBLOCKING": "false",  # else the first turn may come before the tools
    }
    command = ("claude", "-p", "--allowedTools", "mcp__sora", "--", "Make a video of a paper boat")
    shop.do(*command, npm=npm, seconds=180)


def gemini_cli(shop: Workshop) -> Report:
    """The extension, and `sora-mcp install gemini-cli`."""
    npm = shop.npm(GEMINI_CLI)
    shop.do("gemini", "extensions", "validate", MANIFESTS, npm=npm)
    _installed(shop, npm, "gemini-cli", ("gemini", "mcp", "list"), "Connected")
    return (), "extensions validate, install, mcp list: Connected, uninstall"


def codex(shop: Workshop) -> Report:
    """`sora-mcp install codex`, and a whole conversation with a scripted model."""
    npm = shop.npm(CODEX)
    shop.do(SERVER, "install", "codex", npm=npm)
    entry = json.loads(shop.do("codex", "mcp", "get", "sora", "--json", npm=npm))
    if not entry["enabled"] or entry["transport"]["command"] != str(SERVER):
        raise Failed(f"codex has {entry}")
    if "SORA_API_KEY" not in entry["transport"]["env_vars"]:
        raise Failed(f"codex does not forward the key: {entry}")
    with scripted_model() as model:
        provider = f'{{name = "scripted", base_url = "{model.address}", wire_api = "responses"}}'
        settings = {
            "model": "scripted",
            "model_provider": "scripted",
            "model_providers.scripted": provider,
            "mcp_servers.sora.required": "true",  # else the first turn may come before the tools
        }
        overrides = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        flags = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
        shop.do("codex", "exec", *flags, *overrides, "Make a video of a paper boat", npm=npm, seconds=180)
    shop.do(SERVER, "uninstall", "codex", npm=npm)
    if "sora" in (listed_after := shop.do("codex", "mcp", "list", npm=npm)):
        raise Failed(f"codex still has the server:\n{listed_after}")
    return (), f"install, mcp get --json: enabled, {conversation(model)}, uninstall"


def opencode(shop: Workshop) -> Report:
    """The snippet of `sora-mcp install opencode`, and a whole conversation with a scripted model."""
    npm, output = shop.npm(OPENCODE), shop.do(SERVER, "install", "opencode")
    document, _ = json.JSONDecoder().raw_decode(output[output.index("{") :])
    file = shop.home / ".config" / "opencode" / "opencode.json"
    file.parent.mkdir(parents=True)
    with scripted_model() as model:
        options = {"baseURL": model.address, "apiKey": "none"}
        modalities = {"input": ["text", "image"], "output": ["text"]}
        models = {"scripted": {"name": "scripted", "tool_call": True, "attachment": True, "modalities": modalities}}
        provider = {"npm": "@ai-sdk/openai-compatible", "name": "scripted", "options": options, "models": models}
        document |= {"provider": {"scripted": provider}, "model": "scripted/scripted"}
        file.write_text(json.dumps(document), encoding="utf-8")
        if "connected" not in (listed := _list_servers(shop, npm, ("opencode", "mcp", "list"))):
            raise Failed(f"opencode lists:\n{listed}")
        shop.do("opencode", "run", "--auto", "Make a video of a paper boat", npm=npm, seconds=180)
    return (), f"the snippet of install, mcp list: connected, {conversation(model)}"


def copilot_cli(shop: Workshop) -> Report:
    """`sora-mcp install copilot-cli`, and a whole conversation with a scripted model."""
    npm = shop.npm(COPILOT_CLI)
    shop.do(SERVER, "install", "copilot-cli", npm=npm)
    with scripted_model() as model:
        shop.settings |= {
            "COPILOT_OFFLINE": "true",
            "COPILOT_PROVIDER_BASE_URL": model.address,
            "COPILOT_MODEL": "scripted",
            "COPILOT_AUTO_UPDATE": "false",
        }
        command = ("copilot", "-p", "Make a video of a paper boat", "--allow-all-tools")
        shop.do(*command, npm=npm, seconds=180)
    shop.do(SERVER, "uninstall", "copilot-cli", npm=npm)
    if str(SERVER) in (listed_after := _list_servers(shop, npm, ("copilot", "mcp", "list"))):
        raise Failed(f"copilot still lists:\n{listed_after}")
    return (), f"install, {conversation(model)}, uninstall"


def conversation(model: Model) -> str:
    """What a host showed its model. Raises Failed where something of it did not arrive."""
    if len(model.tool_results) != len(_STEPS):
        raise Failed(f"the model was told {model.tool_results}")
    for output, pattern in zip(model.tool_results, _STEPS.values(), strict=True):
        if not re.search(pattern, output):
            raise Failed(f"the model was told {output!r} instead of {pattern!r}")
    if not all(picture.startswith(_JPEG) for picture in model.pictures):
        raise Failed(f"the model was shown {[picture[:9] for picture in model.pictures]}")
    view = "view with the picture" if model.pictures else "view without the picture"
    return ", ".join([f"{len(model.tools)} tools", *_STEPS]).replace("view", view)


_JPEG = b"\xff\xd8\xff"
_STEPS = {
    "error": '(Error: |"message":")width, height: 481x480 is not a documented size',
    "create": '"outcome":"accepted"',
    "wait": '"state":"succeeded"',
    "view": "4 stills",
    "remix": r'"outcome":"accepted".*"sources":\["task_',
}
"""What a conversation goes through, and what the model has to be told. Two of the hosts tell it our JSON alone."""


def _installed(shop: Workshop, npm: Path, client: str, listing: tuple[str, ...], connected: str) -> None:
    """Our installer adds the server, the host's own list says that it connects, our uninstaller takes it out."""
    shop.do(SERVER, "install", client, npm=npm)
    listed = _list_servers(shop, npm, listing)
    if not any(str(SERVER) in line and connected in line for line in listed.splitlines()):
        raise Failed(f"{client} lists:\n{listed}")
    shop.do(SERVER, "uninstall", client, npm=npm)
    if str(SERVER) in (listed_after := _list_servers(shop, npm, listing)):
        raise Failed(f"{client} still lists:\n{listed_after}")


def _list_servers(shop: Workshop, npm: Path, listing: tuple[str, ...]) -> str:
    ended = shop.run(*listing, npm=npm, seconds=120)
    if ended.status:
        raise Failed(f"{' '.join(listing)} ended with {ended.status}:\n{ended.out}{ended.err}")
    return ended.out + ended.err  # Gemini CLI lists on stderr
