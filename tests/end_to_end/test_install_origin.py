"""`install` from an environment that will not stay: what was really run is written, or the reason why nothing is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documentation import ROOT

pytestmark = pytest.mark.slow

Installing = Callable[..., tuple[str, list[str]]]
FOLDER = Path(os.__file__).parent
"""A folder that stays, wherever this checkout lies."""
SOURCE = {"url": FOLDER.as_uri(), "dir_info": {}}
"""What an installer records where it installed from there (PEP 610)."""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    (tmp_path / "user" / ".cursor").mkdir(parents=True)
    return tmp_path / "user"


@pytest.fixture
def installing(tmp_path: Path, user: Path) -> Installing:
    """Runs `install cursor` from an environment below the temporary folder, installed from a recorded source.

    What it says, and the words with which Cursor then starts the server.
    """

    def install(
        record: dict[str, Any] | None, *programs: str, folder: str = "environment", scripts: tuple[str, ...] = ()
    ) -> tuple[str, list[str]]:
        prefix = tmp_path / folder
        venv.create(prefix, symlinks=True)
        packages = next(prefix.glob("lib/python*/site-packages"))
        paths = [*(path for path in sys.path if path.endswith("-packages")), str(ROOT)]
        (packages / "tests.pth").write_text("\n".join(paths))
        about = packages / "sora_mcp-0.1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sora-mcp\nVersion: 0.1.0\n")
        if record is not None:
            (about / "direct_url.json").write_text(json.dumps(record))
        for path in (*(user / name for name in programs), *(prefix / "bin" / name for name in scripts)):
            path.write_text("#!/bin/sh\n")
            path.chmod(0o755)
        done = subprocess.run(  # noqa: S603
            [prefix / "bin" / "python", "-P", "-m", "sora_mcp", "install", "cursor"],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"HOME": str(user), "PATH": str(user)},
        )
        assert "Traceback" not in done.stdout
        file = user / ".cursor" / "mcp.json"
        if not file.exists():
            assert done.returncode == 3, done.stdout
            return done.stdout, []
        entry = json.loads(file.read_text())["mcpServers"]["sora"]
        return done.stdout, [entry["command"], *entry["args"]]

    return install


def test_from_the_cache_of_uvx_the_recorded_source_is_written(
    installing: Installing, user: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "CACHEDIR.TAG").touch()
    _, words = installing(SOURCE, "uvx", "pipx", folder="cache/archive-v0/x")
    requirement = f"sora-mcp[keyring,media] @ {FOLDER.as_uri()}"
    assert words == [str(user / "uvx"), "--from", requirement, "sora-mcp"]


def test_without_uvx_pipx_runs_it(installing: Installing, user: Path) -> None:
    _, words = installing(SOURCE, "pipx")
    assert words == [str(user / "pipx"), "run", "--spec", f"sora-mcp[keyring,media] @ {FOLDER.as_uri()}", "sora-mcp"]


@pytest.mark.parametrize(
    ("record", "source"),
    [
        (
            {"url": "https://host.example/x.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            "git+https://host.example/x.git@c0ffee",
        ),
        (
            {
                "url": "ssh://git@host.example/x.git",
                "vcs_info": {"vcs": "git", "commit_id": "c0ffee"},
                "subdirectory": "server",
            },
            "git+ssh://git@host.example/x.git@c0ffee#subdirectory=server",
        ),
        (
            {"url": "https://host.example/sora_mcp.whl", "archive_info": {"hashes": {"sha256": "abc"}}},
            "https://host.example/sora_mcp.whl#sha256=abc",
        ),
    ],
    ids=["a commit", "a subfolder", "an archive"],
)
def test_what_is_fetched_is_pinned(installing: Installing, record: dict[str, Any], source: str) -> None:
    assert installing(record, "uvx")[1][2] == f"sora-mcp[keyring,media] @ {source}"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (None, "its name is not published"),
        ({"url": "file:///nowhere/at/all", "dir_info": {}}, "no longer exists"),
        ({"url": "https://user:secret@host.example/x.whl", "archive_info": {}}, "may hold a password"),
        ({"url": "https://secret@host.example/x.whl", "archive_info": {}}, "may hold a password"),
        ({"url": "https://host.example/x.whl?token=secret", "archive_info": {}}, "may hold a password"),
        ({"url": "http://host.example/x.whl", "archive_info": {}}, "cannot be fetched safely"),
        ({}, "cannot be fetched safely"),
    ],
    ids=["an index", "gone", "a password", "a user", "a token", "plain http", "nothing"],
)
def test_where_nobody_can_tell_what_it_was_nothing_is_written(
    installing: Installing, record: dict[str, Any] | None, why: str
) -> None:
    said, words = installing(record, "uvx", scripts=("sora-mcp",))
    assert (words, why in said, "in a folder that stays" in said) == ([], True, True), said
    assert "secret" not in said


def test_a_source_that_will_not_stay_either_is_not_written(installing: Installing, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    said, words = installing({"url": (tmp_path / "source").as_uri(), "dir_info": {}}, "uvx")
    assert (words, "in a temporary folder, too" in said) == ([], True), said


def test_without_a_program_that_fetches_nothing_is_written(installing: Installing) -> None:
    said, words = installing(SOURCE, scripts=("sora-mcp",))
    assert (words, "neither uvx nor pipx" in said) == ([], True), said


def test_an_environment_inside_its_own_checkout_stays_as_long_as_that(installing: Installing, tmp_path: Path) -> None:
    (tmp_path / "checkout").mkdir()
    record = {"url": (tmp_path / "checkout").as_uri(), "dir_info": {"editable": True}}
    _, words = installing(record, folder="checkout/.venv", scripts=("sora-mcp",))
    assert words == [str(tmp_path / "checkout" / ".venv" / "bin" / "sora-mcp")]
