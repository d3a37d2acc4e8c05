"""Who imports whom, and what starting costs in modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from loaded import modules_after

import sora_mcp

PACKAGE = Path(sora_mcp.__file__).parent

ORDER: tuple[set[str], ...] = (
    {"core", "runtime"},
    {"config"},
    {"dialects"},
    {"gateway", "ledger", "media"},
    {"sandbox"},
    {"studio"},
    {"tools"},
    {"toolkit"},
    {"server", "distribution", "demo"},
    {"cli"},
    {"__main__"},
)
"""Rooms, lowest first; a room imports only rooms in the sets before its own (and itself)."""

RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def rooms() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "__init__":
            yield room, path


def imported_at_top(path: Path) -> Iterator[str]:
    """Every module imported at the top of a file, as a dotted name; `from sora_mcp import x` gives sora_mcp.x."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "sora_mcp":
            yield from (f"sora_mcp.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_every_room_has_its_place() -> None:
    assert {room for room, _ in rooms()} == set(RANK)


@pytest.mark.parametrize(("room", "path"), list(rooms()), ids=lambda value: str(getattr(value, "name", value)))
def test_imports_run_one_way(room: str, path: Path) -> None:
    ours = {name.split(".")[1] for name in imported_at_top(path) if name.startswith("sora_mcp.")}
    ours -= {room, "__version__"}
    assert [other for other in sorted(ours) if RANK[other] >= RANK[room]] == []


def test_only_the_server_and_the_demo_import_the_protocol() -> None:
    users = {
        room for room, path in rooms() if any(n.split(".")[0] in {"mcp", "mcp_types"} for n in imported_at_top(path))
    }
    assert users == {"server", "demo"}


def test_only_the_gateway_and_the_sandbox_import_the_http_client() -> None:
    users = {room for room, path in rooms() if "httpx" in imported_at_top(path)}
    assert users <= {"gateway", "sandbox"}


def test_help_loads_neither_the_protocol_nor_the_http_client() -> None:
    loaded = modules_after("from sora_mcp.cli import main\nmain(['--help'], standalone_mode=False)")
    assert not {"mcp", "mcp_types", "httpx", "pydantic", "sqlite3"} & loaded


@pytest.mark.parametrize("name", ["create", "get", "list", "view"])
def test_help_of_a_video_command_loads_no_tools(name: str) -> None:
    loaded = modules_after(f"from sora_mcp.cli import main\nmain(['{name}', '--help'], standalone_mode=False)")
    assert not {"mcp", "mcp_types", "httpx", "pydantic", "asyncio", "sora_mcp.tools"} & loaded


def test_the_server_loads_at_most_110_modules_beyond_the_protocol() -> None:
    bare = modules_after("import mcp, mcp.server.lowlevel, mcp.server.stdio")
    ours = modules_after("import mcp, mcp.server.lowlevel, mcp.server.stdio\nimport sora_mcp.server")
    assert len(ours - bare) <= 110


def test_nothing_that_draws_is_loaded_by_the_server() -> None:
    assert not {"av", "PIL", "starlette.testclient", "stamina"} & modules_after("import sora_mcp.server")
