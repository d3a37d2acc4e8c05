"""Which entry of a client's is ours, and what it becomes when the server is installed again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sora_mcp.distribution.manifests.product import NAME, Document

_MODULE = ["-m", "sora_mcp"]
_PACKAGE = re.compile(rf"{NAME}(\[[a-z,]*\])?(==| @ )")
_FETCHED = {"uvx": ["--from"], "pipx": ["run", "--spec"]}
"""The arguments with which a program is told what to fetch."""


def is_ours(entry: Document) -> bool:
    """Whether an entry starts this server: the script, the module, or the published form in whichever version.

    What it is called does not tell, nor that our name stands somewhere in it.
    """
    words = words_of(entry)[1:]
    return _is_script(entry) or words[:2] == _MODULE or _is_fetched(entry, words)


def words_of(entry: Document) -> list[Any]:
    """The program that an entry starts, and its arguments; opencode has both in one list."""
    command, args = entry.get("command"), entry.get("args")
    if isinstance(command, list) and entry.get("type") == "local":
        return command
    return [command, *(args if isinstance(args, list) else [])]


def env_of(entry: Document) -> str:
    """What the variables of an entry are called: `environment` by opencode."""
    return "environment" if "environment" in entry else "env"


def _is_script(entry: Document) -> bool:
    return _program(entry) == NAME


def _is_fetched(entry: Document, words: list[Any]) -> bool:
    """Whether the program fetches this package, in whichever version or from whichever source, and starts it."""
    options = _FETCHED.get(_program(entry))
    if options is None or words[: len(options)] != options:
        return False
    requirement, script = [*words[len(options) :], None, None][:2]
    return isinstance(requirement, str) and _PACKAGE.match(requirement) is not None and script == NAME


def _program(entry: Document) -> str:
    """The name of the program that an entry starts, without its folder."""
    command = next(iter(words_of(entry)), None)
    return re.split(r"[\\/]", command)[-1].lower().removesuffix(".exe") if isinstance(command, str) else ""


def renewed(held: Document, wanted: Document, values: Mapping[str, str], references: Mapping[str, str]) -> Document:
    """Our entry as it is wanted now, with what somebody added to the one that is there: fields, variables, arguments.

    A variable in it is written over by one of the `values` of now, never by one of our `references`: those only say
    where a client may look for a value.
    """
    name_of_env = env_of(wanted)
    env = _object(held.get(name_of_env))
    kept = {name: value for name, value in env.items() if name not in values and value != references.get(name)}
    entry = {**held, **wanted, name_of_env: {**wanted[name_of_env], **kept}}
    if _is_script(held) and _is_script(wanted) and "args" in held:
        entry["args"] = held["args"]
    if "env_vars" in wanted:
        names = [*wanted["env_vars"], *(each for each in held.get("env_vars", []) if each not in wanted["env_vars"])]
        entry["env_vars"] = [each for each in names if each not in list(entry["env"])]  # Codex takes tables, too
    return entry


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
