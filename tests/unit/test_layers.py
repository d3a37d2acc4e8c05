"""Who imports whom, and what starting costs in modules."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from imports import modules_after

import sora_mcp

PACKAGE = Path(sora_mcp.__file__).parent

ORDER: tuple[set[str], ...] = (
    {"core", "runtime"},
    {"config"},
    {"identity"},
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
    imported = {name.split(".")[1] for name in imported_at_top(path) if name.startswith("sora_mcp.")}
    imported -= {room, "__version__"}
    assert [other for other in sorted(imported) if RANK[other] >= RANK[room]] == []


MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION, MOST_LINES_IN_AN_INIT = 400, 60, 8


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parent.as_posix()


def lines_of(node: ast.AST) -> int:
    assert isinstance(node, ast.stmt)
    return (node.end_lineno or node.lineno) - node.lineno + 1


INITS = sorted(PACKAGE.rglob("__init__.py"))


@pytest.mark.parametrize("path", INITS, ids=package_of)
def test_a_package_only_says_what_it_offers(path: Path) -> None:
    defined = [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and lines_of(node) > MOST_LINES_IN_AN_INIT
    ]
    assert defined == []


def test_files_and_functions_are_short() -> None:
    long = []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > MOST_LINES_OF_A_FILE:
            long.append(str(path))
        long += [
            f"{path}: {node.name}"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > MOST_LINES_OF_A_FUNCTION
        ]
    assert long == []


def module_of(path: Path) -> str:
    return ".".join(["sora_mcp", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


def modules_imported_at_top(path: Path) -> set[str]:
    """Our modules that a file imports at its top: of `from a import b` it is `a.b` where that is one, else `a`."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {each if each in MODULES else node.module for each in inner}
    return names & MODULES.keys()


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: modules_imported_at_top(path) for module, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


@pytest.mark.parametrize("name", ["media", "server", "studio", "toolkit", "tools"])
def test_what_a_package_offers_is_there(name: str) -> None:
    package = importlib.import_module(f"sora_mcp.{name}")
    assert sorted(package.__all__, key=str) == sorted(set(package.__all__))
    assert all(hasattr(package, each) for each in package.__all__)


def test_only_the_server_and_the_demo_import_the_protocol() -> None:
    users = {
        room for room, path in rooms() if any(n.split(".")[0] in {"mcp", "mcp_types"} for n in imported_at_top(path))
    }
    assert users == {"server", "demo"}


WIRING = {"studio/upstream.py", "config/endpoint.py", "cli/commands.py", "demo.py"}
"""Where the sandbox is named: what makes the gateway, the address that stands for it, the command that serves it."""


def test_to_every_room_but_the_wiring_the_sandbox_is_a_gateway_like_any_other() -> None:
    named = {
        path.relative_to(PACKAGE).as_posix()
        for room, path in rooms()
        if room != "sandbox"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr == "sandbox")
        or (isinstance(node, ast.ImportFrom) and str(node.module).startswith("sora_mcp.sandbox"))
    }
    assert named <= WIRING


def test_no_dialect_knows_another_and_the_gateway_knows_none() -> None:
    for path in [*(PACKAGE / "gateway").rglob("*.py"), *(PACKAGE / "dialects").rglob("*.py")]:
        own = path.relative_to(PACKAGE).parts
        kinds = {name.split(".")[2] for name in imported_at_top(path) if name.startswith("sora_mcp.dialects.")}
        shared = {"protocol", "replies", "shots", "bridges"}
        allowed = shared | {*own[1:2]} if own != ("dialects", "__init__.py") else kinds
        assert kinds <= allowed, path


def test_only_the_gateway_the_sandbox_and_the_issuers_keys_import_the_http_client() -> None:
    users = {room for room, path in rooms() if "httpx" in imported_at_top(path)}
    assert users <= {"gateway", "sandbox", "identity"}


@pytest.mark.slow
def test_help_loads_neither_the_protocol_nor_the_http_client() -> None:
    loaded = modules_after("from sora_mcp.cli import main\nmain(['--help'], standalone_mode=False)")
    assert not {"mcp", "mcp_types", "httpx", "pydantic", "sqlite3"} & loaded


@pytest.mark.parametrize("name", ["create", "get", "list", "view"])
@pytest.mark.slow
def test_help_of_a_video_command_loads_no_tools(name: str) -> None:
    loaded = modules_after(f"from sora_mcp.cli import main\nmain(['{name}', '--help'], standalone_mode=False)")
    assert not {"mcp", "mcp_types", "httpx", "pydantic", "asyncio", "sora_mcp.tools"} & loaded


@pytest.mark.slow
def test_the_server_loads_little_beyond_the_protocol_and_its_own_rooms() -> None:
    bare = modules_after("import mcp, mcp.server.lowlevel, mcp.server.stdio")
    loaded = modules_after("import mcp, mcp.server.lowlevel, mcp.server.stdio\nimport sora_mcp.server") - bare
    ours = {name for name in loaded if name.partition(".")[0] == "sora_mcp"}
    assert {name.partition(".")[0] for name in loaded - ours} <= {"difflib", "msgspec", "sqlite3", "_sqlite3"}
    assert len(ours) <= 145  # each file costs about 0.2 ms


@pytest.mark.slow
def test_nothing_that_draws_is_loaded_by_the_server() -> None:
    assert not {"av", "PIL", "starlette.testclient", "stamina"} & modules_after("import sora_mcp.server")


@pytest.mark.slow
def test_a_paid_request_does_not_load_the_metrics_library(tmp_path: Path) -> None:
    create = [sys.executable, "-X", "importtime", "-m", "sora_mcp", "create", "A fox in the snow"]
    env = os.environ | {"SORA_HOME": str(tmp_path), "SORA_BASE_URL": "sandbox"}
    done = subprocess.run(create, env=env, check=True, capture_output=True, text=True)  # noqa: S603 - our own command
    assert "stamina" in done.stderr
    assert "prometheus_client" not in done.stderr
