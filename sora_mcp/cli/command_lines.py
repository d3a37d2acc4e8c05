"""Our commands in a form that can be pasted into a shell. Imports little: listing videos loads nothing more."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def command(*arguments: str) -> str:
    """Return one of our commands, quoted for the shell."""
    return shlex.join(["sora-mcp", *arguments])


def option(field: str) -> str:
    """Return the name of the option for a tool's argument."""
    return f"--{field.replace('_', '-')}"


def list_arguments(arguments: Mapping[str, Any]) -> list[str]:
    """Return the command line for a `list_videos` call with these arguments, without its page and its wait."""
    filters = {name: value for name, value in arguments.items() if name not in {"cursor", "wait_seconds"}}
    options = [text for name, value in filters.items() if value is not None for text in (option(name), str(value))]
    return ["list", *options]
