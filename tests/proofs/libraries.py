"""Client libraries and agent frameworks: each runs a script of `clients/` in an environment of its own, over stdio."""

from __future__ import annotations

import json
import shutil

from workshop import CLIENTS, Workshop

TYPESCRIPT_1 = "@modelcontextprotocol/sdk@1.32.2"
TYPESCRIPT_2 = "@modelcontextprotocol/client@2.4.0"
FASTMCP = "fastmcp==4.1.2"
Told = tuple[tuple[str, ...], str]


def typescript_1(shop: Workshop) -> Told:
    """The TypeScript SDK that most hosts are built on."""
    return _node(shop, TYPESCRIPT_1, "typescript_1.mjs")


def typescript_2(shop: Workshop) -> Told:
    """The TypeScript client of 2026-07-28."""
    return _node(shop, TYPESCRIPT_2, "typescript_2.mjs")


def fastmcp(shop: Workshop) -> Told:
    """fastmcp's client."""
    return _python(shop, "with_fastmcp.py", FASTMCP)


def _node(shop: Workshop, package: str, script: str) -> Told:
    npm = shop.npm(package)
    for name in (script, "story.mjs"):  # Node looks for packages from where the script lies
        shutil.copy(CLIENTS / name, npm)
    return _told(shop.do("node", npm / script, npm=npm))


def _python(shop: Workshop, script: str, *requirements: str) -> Told:
    return _told(shop.do(shop.venv(*requirements), CLIENTS / script))


def _told(out: str) -> Told:
    """What a script says in its last line."""
    told = json.loads(out.strip().splitlines()[-1])
    return tuple(told["eras"]), ", ".join(told["shown"])
