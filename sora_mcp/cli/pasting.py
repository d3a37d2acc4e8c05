"""Commands of ours as they can be pasted into a shell; light, so that what only lists loads no more."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def command(*words: str) -> str:
    """A command of ours, quoted for the shell."""
    return shlex.join(["sora-mcp", *words])


def option(field: str) -> str:
    """What the argument of a tool is called at the shell."""
    return f"--{field.replace('_', '-')}"


def next_page(cursor: str, filters: Mapping[str, Any]) -> str:
    """The command that shows the next page of a list that was asked for with these arguments."""
    options = [text for name, value in filters.items() if value is not None for text in (option(name), str(value))]
    return command("list", *options, "--cursor", cursor)
