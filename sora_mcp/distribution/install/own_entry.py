"""Which entry of a client's is ours, and what it becomes when the server is installed again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sora_mcp.distribution.manifests.product import NAME, PUBLISHED, REQUIREMENT, Document

_MODULE = ["-m", "sora_mcp"]
_PACKAGE = REQUIREMENT.partition("==")[0] + "=="


def is_ours(entry: Document) -> bool:
    """Whether an entry starts this server: the script, the module, or the published form in whichever version.

    What it is called does not tell, nor that our name stands somewhere in it.
    """
    args = entry.get("args")
    words: list[Any] = args if isinstance(args, list) else []
    return _is_script(entry) or words[:2] == _MODULE or _is_published(entry, words)


def _is_script(entry: Document) -> bool:
    return _program(entry) == NAME


def _is_published(entry: Document, words: list[Any]) -> bool:
    option, requirement, script = [*words, None, None, None][:3]
    named = isinstance(requirement, str) and requirement.startswith(_PACKAGE)
    return _program(entry) == PUBLISHED.command and [option, script] == ["--from", NAME] and named


def _program(entry: Document) -> str:
    """The name of the program that an entry starts, without its folder."""
    command = entry.get("command")
    return re.split(r"[\\/]", command)[-1].lower().removesuffix(".exe") if isinstance(command, str) else ""


def renewed(held: Document, wanted: Document, values: Mapping[str, str], references: Mapping[str, str]) -> Document:
    """Our entry as it is wanted now, with what somebody added to the one that is there: fields, variables, arguments.

    A variable in it is written over by one of the `values` of now, never by one of our `references`: those only say
    where a client may look for a value.
    """
    env = _object(held.get("env"))
    kept = {name: value for name, value in env.items() if name not in values and value != references.get(name)}
    entry = {**held, **wanted, "env": {**wanted["env"], **kept}}
    if _is_script(held) and _is_script(wanted) and "args" in held:
        entry["args"] = held["args"]
    if "env_vars" in wanted:
        names = [*wanted["env_vars"], *(each for each in held.get("env_vars", []) if each not in wanted["env_vars"])]
        entry["env_vars"] = [each for each in names if each not in list(entry["env"])]  # Codex takes tables, too
    return entry


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
