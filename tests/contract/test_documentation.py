"""README, CONTRIBUTING and the pages in docs: what they point to is there, and what they tell people to type works."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from documentation import PAGES, README, ROOT, anchors, block, blocks, links, prose

from sora_mcp.cli import main

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_path_that_is_named_is_there(page: Path) -> None:
    for path in re.findall(r"`((?:sora_mcp|tests|docs|manifests|\.ci)/[\w./-]*)`", page.read_text(encoding="utf-8")):
        assert "NAME" in path or (ROOT / path).exists(), path


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, new = {README}, [README]
    while new:
        page = new.pop()
        found = {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}
        new += [each for each in found - reached if each.suffix == ".md"]
        reached |= found
    assert set(PAGES) <= reached


def test_the_readme_is_a_front_door() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_has_one_title_and_lines_that_fit_an_editor() -> None:
    for page in PAGES:
        lines = prose(page).splitlines()
        assert [line[:2] for line in lines].count("# ") == 1, page
        assert max(len(line) for line in lines if not line.startswith("|")) <= 120, page


@pytest.mark.parametrize("marker", ["sh demo", "sh test"])
def test_the_readme_has_one_command_for_the_demo_and_one_for_the_tests(marker: str) -> None:
    (command,) = blocks(marker, README)
    assert len(command.strip().splitlines()) == 1
    assert command.strip().endswith(
        {"sh demo": ".venv/bin/sora-mcp demo", "sh test": ".venv/bin/pytest -q -n 2"}[marker]
    )


@pytest.mark.parametrize(
    ("version", "fits"), [((2, 7), False), ((3, 10), False), ((3, 11), True), ((3, 13), True)], ids=str
)
@pytest.mark.parametrize("marker", ["sh demo", "sh test"])
@pytest.mark.slow
def test_a_python_that_is_too_old_is_told_before_anything_is_installed(
    marker: str, version: tuple[int, int], fits: bool
) -> None:
    check = shlex.split(block(marker))
    assert check[:2] == ["python3", "-c"]
    assert check[3:5] == ["&&", "python3"]
    as_if = f"import sys; sys.version_info = {(*version, 0)}; sys.version = '{version[0]}.{version[1]}.0 (main)'\n"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", as_if + check[2]], check=False, capture_output=True, text=True
    )
    assert (done.returncode == 0) is fits
    said = "" if fits else f"Python 3.11 or newer is needed; python3 here is {version[0]}.{version[1]}.0\n"
    assert (done.stdout, done.stderr) == ("", said)


def test_the_configurations_parse_and_hold_no_key() -> None:
    entries = [json.loads(text) for text in blocks("json")]
    assert entries
    for entry in entries:
        server = entry["mcpServers"]["sora"]
        assert server["command"] == "/path/to/sora-mcp"
        assert server["env"].get("SORA_API_KEY", "your-key") == "your-key"
    for page in PAGES:
        assert "sk-" not in page.read_text(encoding="utf-8")


def test_every_command_of_ours_is_known_with_its_options() -> None:
    shown = "\n".join([*blocks("sh.*?"), *blocks("console"), *_inline()])
    uses = re.findall(r"(?<![-/\w.])(?:\.venv/bin/)?sora-mcp ([a-z]+)([^\n`]*)", shown)
    known: dict[str, set[str]] = {}
    for command, rest in uses:
        known.setdefault(command, set()).update(re.findall(r"(?<= )--[a-z-]+", rest))
    assert {"demo", "install", "doctor", "serve", "settle", "ledger", "manifests"} <= set(known)
    for command, options in known.items():
        for option in options | {"--help"}:
            assert option in _help(command), f"sora-mcp {command} {option}"


def _inline() -> Iterator[str]:
    for page in PAGES:
        yield from re.findall(r"`((?:\.venv/bin/)?sora-mcp [^`\n]+)`", page.read_text(encoding="utf-8"))


def _help(command: str) -> str:
    inner = main.commands.get(command)
    words = [[command, name] for name in inner.commands] if isinstance(inner, click.Group) else [[command]]
    shown = [CliRunner().invoke(main, [*each, "--help"]) for each in words]
    assert not any(each.exit_code for each in shown), command
    return "".join(each.output for each in shown)


# CONTRIBUTING


def steps() -> Iterator[list[str]]:
    """Every command that CONTRIBUTING tells to type, in words."""
    for text in [*blocks("sh", CONTRIBUTING), *table_commands()]:
        for line in text.strip().splitlines():
            for step in line.split("&&"):
                yield shlex.split(step, comments=True)


def table_commands() -> list[str]:
    return re.findall(r"^\| \[.+?\]\(#.+?\) \| `(.+?)` \|$", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)


def test_each_habit_of_the_table_is_the_command_of_its_section() -> None:
    commands = table_commands()
    assert len(commands) == 7
    typed = "\n".join(blocks("sh", CONTRIBUTING))
    for command in commands:
        assert command in typed


@pytest.mark.parametrize("step", list(steps()), ids=" ".join)
def test_every_command_of_contributing_is_real(step: list[str]) -> None:
    program, *arguments = step
    scripts = {script.name for script in entry_points(group="console_scripts")} | {"pip", "python", "ruff"}
    groups = {"mypy", "ruff"} if "--group" not in arguments else set()
    assert program in {"python3", "bash"} or program.removeprefix(".venv/bin/") in scripts | groups
    for argument in arguments:
        if "/" in argument or argument.endswith(".py"):
            assert (ROOT / argument).exists(), argument
    for group in [after for before, after in pairwise(arguments) if before == "--group"]:
        assert group in PYPROJECT["dependency-groups"]
    for extra in re.findall(r"\.\[(\w+)\]", " ".join(arguments)):
        assert extra in PYPROJECT["project"]["optional-dependencies"]


@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=lambda path: str(path.name))
@pytest.mark.slow
def test_the_scripts_of_ci_can_be_read_by_bash(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], check=False, capture_output=True, text=True)  # noqa: S603, S607
    assert (done.returncode, done.stderr) == (0, "")


def test_the_fast_tests_of_ci_are_those_of_contributing() -> None:
    fast = '-m "not slow" tests/unit tests/contract'
    assert f".venv/bin/pytest -q -n 2 {fast}" in table_commands()
    assert f'pytest" -q -n 2 {fast}\n' in (ROOT / ".ci" / "pythons").read_text(encoding="utf-8")


# What is published


def test_the_source_distribution_holds_every_page_and_only_what_is_there() -> None:
    included = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert all((ROOT / name).exists() for name in included)
    for page in PAGES:
        assert page.relative_to(ROOT).parts[0] in included


def test_the_pythons_that_are_named_are_those_that_are_tested() -> None:
    versions = {
        name.rpartition(" ")[2] for name in PYPROJECT["project"]["classifiers"] if re.search(r":: \d\.\d+$", name)
    }
    others = re.search(
        r"^for version in (.+); do$", (ROOT / ".ci" / "pythons").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert others is not None
    assert versions == {PYPROJECT["project"]["requires-python"].removeprefix(">="), *others[1].split()}
