"""Recognizing our entry in a client's configuration, and merging it when the server is installed again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sora_mcp.distribution.manifests.product import NAME, Document

_MODULE = ["-m", "sora_mcp"]
_PACKAGE = re.compile(rf"{NAME}(\[[a-z,]*\])?(==| @ )")
_FETCHED = {"uvx": ["--from"], "pipx": ["run", "--spec"]}
"""The arguments after which each program expects the package to fetch."""


def is_own(entry: Document) -> bool:
    """Whether an entry starts this server: as the script, the module, or the published package in any version.

    Neither the entry's name nor an occurrence of ours somewhere in it is enough.
    """
    arguments = command_line(entry)[1:]
    return _is_script(entry) or arguments[:2] == _MODULE or _is_fetched(entry, arguments)


def command_line(entry: Document) -> list[Any]:
    """Return the program that an entry starts, and its arguments; opencode has both in one list."""
    command, args = entry.get("command"), entry.get("args")
    if isinstance(command, list) and entry.get("type") == "local":
        return command
    return [command, *(args if isinstance(args, list) else [])]


def env_key(entry: Document) -> str:
    """Return the key of an entry's variables: `environment` in opencode, else `env`."""
    return "environment" if "environment" in entry else "env"


def _is_script(entry: Document) -> bool:
    return _program(entry) == NAME


def _is_fetched(entry: Document, arguments: list[Any]) -> bool:
    """Whether the program fetches this package, in any version and from any source, and starts it."""
    options = _FETCHED.get(_program(entry))
    if options is None or arguments[: len(options)] != options:
        return False
    requirement, script = [*arguments[len(options) :], None, None][:2]
    return isinstance(requirement, str) and _PACKAGE.match(requirement) is not None and script == NAME


def _program(entry: Document) -> str:
    """Return the name of the program that an entry starts, without its folder."""
    command = next(iter(command_line(entry)), None)
    return re.split(r"[\\/]", command)[-1].lower().removesuffix(".exe") if isinstance(command, str) else ""


def merged(current: Document, wanted: Document, values: Mapping[str, str], references: Mapping[str, str]) -> Document:
    """Return the wanted entry, merged with what a person added to the current one: fields, variables, arguments.

    One of the `values` overwrites a variable of the current entry; one of our `references` never does, because it only
    says where a client can look up a value.
    """
    key = env_key(wanted)
    env = _object(current.get(key))
    added = {name: value for name, value in env.items() if name not in values and value != references.get(name)}
    entry = {**current, **wanted, key: {**wanted[key], **added}}
    if _is_script(current) and _is_script(wanted) and "args" in current:
        entry["args"] = current["args"]
    if "env_vars" in wanted:
        names = [*wanted["env_vars"], *(each for each in current.get("env_vars", []) if each not in wanted["env_vars"])]
        entry["env_vars"] = [each for each in names if each not in list(entry["env"])]  # Codex takes tables, too
    return entry


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
