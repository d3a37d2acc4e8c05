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


def same_list(arguments: Mapping[str, Any]) -> list[str]:
    """The words of the command for a list that was asked for with these arguments, without a page and a wait."""
    filters = {name: value for name, value in arguments.items() if name not in {"cursor", "wait_seconds"}}
    options = [text for name, value in filters.items() if value is not None for text in (option(name), str(value))]
    return ["list", *options]
