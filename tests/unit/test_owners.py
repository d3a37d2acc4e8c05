"""Owners' folders: names that cannot escape and never meet."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from sora_mcp.core.owners import owner_folder

NAMES = [
    "alice",
    "Alice",
    "ALICE",
    "alice ",
    "alice.",
    "alice/..",
    "../alice",
    "..",
    ".",
    "",
    "/",
    "\\",
    "C:\\Users",
    "con",
    "nul.txt",
    "a/b",
    "a-b",
    "a_b",
    "a%2fb",
    "a\0b",
    "alice@example.org",
    "oauth:https://issuer.example|auth0|123",
    "é",
    "e\u0301",
    "\ud800",
    "a" * 5000,
    "a" * 5001,
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_folder_is_one_plain_part_of_a_path(name: str) -> None:
    folder = owner_folder(name)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,99}", folder)
    for kind in (PurePosixPath, PureWindowsPath):
        assert kind(folder).name == folder
    assert not re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", folder)  # names of devices on Windows


def test_no_two_owners_share_a_folder_even_where_the_file_system_ignores_case() -> None:
    assert len({owner_folder(name).casefold() for name in NAMES}) == len(NAMES)


def test_a_folder_tells_whose_it_is() -> None:
    assert owner_folder("alice@example.org").startswith("alice-example-org-")
