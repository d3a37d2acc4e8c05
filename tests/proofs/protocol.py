"""The official conformance suite and the official Inspector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workshop import SERVER, Completed, Failed, Report, Workshop

CONFORMANCE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"
ERAS = ("2025-11-25", "2026-07-28")
BOTH = ("tools-list", "resources-list", "prompts-list", "dns-rebinding-protection", "server-sse-multiple-streams")
SCENARIOS = {
    "2025-11-25": (*BOTH, "server-initialize", "server-session-lifecycle", "ping"),
    "2026-07-28": (*BOTH, "caching", "http-header-validation", "sep-2164-resource-not-found", "server-stateless"),
}
NEED_A_FIXTURE = {"ServerRejectsUndeclaredCapability", "MissingCapabilityHttp400"}
"""Checks of server-stateless that call a tool `test_missing_capability`, which only a server made for the suite has."""
IS_ERROR = 5
"""The Inspector's exit status for a result with isError."""


def conformance(shop: Workshop) -> Report:
    """Every scenario that means something for a product, over streamable HTTP."""
    with shop.serving() as base_url:
        return ERAS, scenarios_passed(shop, base_url)


def scenarios_passed(shop: Workshop, base_url: str) -> str:
    """Run every scenario against a server; how many passed. Raises Failed."""
    npm = shop.npm(CONFORMANCE)
    program = npm / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    counts = []
    for era, scenarios in SCENARIOS.items():
        checks = 0
        for scenario in scenarios:
            out = shop.scratch / era / scenario
            arguments = ("server", "--url", base_url, "--scenario", scenario, "--spec-version", era, "-o", str(out))
            ended = shop.run("node", program, *arguments, npm=npm)
            checks += _passed(f"{scenario} ({era})", out, ended, NEED_A_FIXTURE if "stateless" in scenario else set())
        counts.append(f"{era}: {len(scenarios)} scenarios, {checks} checks")
    exceptions = f"{len(NEED_A_FIXTURE)} checks of server-stateless need a fixture tool"
    return "; ".join([*counts, exceptions])


def _passed(scenario: str, out: Path, ended: Completed, excepted: set[str]) -> int:
    """How many checks passed. Raises Failed unless exactly the excepted ones did not."""
    all_checks = [check for file in out.rglob("checks.json") for check in json.loads(file.read_text(encoding="utf-8"))]
    passed = [check for check in all_checks if check["status"] == "SUCCESS"]
    others = {check["name"]: check for check in all_checks if check["status"] not in {"SUCCESS", "INFO", "SKIPPED"}}
    if set(others) != excepted or not passed or (ended.status != 0) != bool(excepted):
        reasons = [f"{name}: {check.get('errorMessage')}" for name, check in others.items()] or [ended.err[-1000:]]
        raise Failed("\n".join([f"{scenario}: not passed should be {sorted(excepted)}, but is", *reasons]))
    return len(passed)


def inspector(shop: Workshop) -> Report:
    """The Inspector's command line over stdio, on both eras."""
    for era in ("legacy", "modern"):
        summary = _inspected(shop, era)
    return ERAS, summary


def _inspected(shop: Workshop, era: str) -> str:
    home = shop.settings | {"SORA_HOME": str(shop.scratch / era)}

    def ask(method: str, *more: str, status: int = 0) -> dict[str, Any]:
        npm = shop.npm(INSPECTOR)
        variables = [word for name, value in home.items() for word in ("-e", f"{name}={value}")]
        command = (str(SERVER), "--protocol-era", era, *variables, "--method", method, *more)
        ended = shop.run("mcp-inspector", "--cli", *command, npm=npm)
        if ended.status != status or "Warning: tool" in ended.err:  # --strict ends with 0 after mere warnings
            raise Failed(f"{method} ended with {ended.status}, not {status}:\n{ended.out}{ended.err}")
        return dict(json.loads(ended.out))

    counts = [
        f"{len(ask('tools/list', '--strict')['tools'])} tools (--strict)",
        f"{len(ask('resources/list')['resources'])} resources",
        f"{len(ask('resources/templates/list')['resourceTemplates'])} templates",
        f"{len(ask('prompts/list')['prompts'])} prompts",
    ]
    create = ("--tool-name", "create_video", "--tool-args-json")
    made = ask("tools/call", *create, '{"prompt": "a paper boat", "width": 480, "height": 480}')
    if made["structuredContent"]["outcome"] != "accepted":
        raise Failed(f"create_video answered {made}")
    ask("tools/call", *create, '{"prompt": "a boat", "width": 481, "height": 480}', status=IS_ERROR)
    return ", ".join([*counts, "create", f"error (exit {IS_ERROR})"])
