"""Changing one entry in the text of Codex's TOML file; tomlkit preserves every byte of the rest."""

from __future__ import annotations

from typing import Any

from sora_mcp.distribution.install.entries import NotEditable
from sora_mcp.distribution.manifests.product import Document


def entry(text: str, container: str, name: str) -> Document | None:
    """Return the entry `name` in `container`, or None. Raises NotEditable."""
    servers = _parse(text).unwrap().get(container, {})
    value = servers.get(name) if isinstance(servers, dict) else None
    if not isinstance(servers, dict) or not isinstance(value, dict | None):
        raise NotEditable(f"its {container}.{name} is not a table")
    for key, key_type in (("env", dict), ("env_vars", list)):
        if value is not None and not isinstance(value.get(key, key_type()), key_type):
            raise NotEditable(f"its {container}.{name}.{key} is not what Codex takes")
    return value


def with_entry(text: str, container: str, name: str, value: Document) -> str:
    """Return the text with these values in the existing entry. Raises NotEditable if it is not in Codex's own form."""
    from tomlkit.items import InlineTable  # noqa: PLC0415 - as below

    document = _parse(text)
    expected, table = document.unwrap(), document[container][name]
    if isinstance(table, InlineTable) or any(isinstance(each, dict) for each in value.get("env_vars", [])):
        raise NotEditable("it is written in another form than Codex's own")
    wanted = {key: each for key, each in value.items() if each != {} or key in table}  # a file need not say empty ones
    expected[container][name] = wanted
    _update(table, wanted)
    changed: str = document.as_string()
    if "\r\n" in text and text.count("\r\n") == text.count("\n"):  # tomlkit ends new lines with \n
        changed = changed.replace("\r\n", "\n").replace("\n", "\r\n")
    if _parse(changed).unwrap() != expected:
        raise NotEditable("it is written in another form than Codex's own")
    return changed


def _update(table: Any, value: Document) -> None:
    for key, each in value.items():
        if isinstance(each, dict) and key in table:
            _update(table[key], each)
        elif table.get(key) != each:
            table[key] = each
            table[key].trivia.comment_ws = table[key].trivia.comment = ""  # it described the old value


def _parse(text: str) -> Any:
    import tomlkit  # noqa: PLC0415 - only one client's file is TOML

    try:
        return tomlkit.parse(text)
    except (ValueError, RecursionError):
        raise NotEditable("it is not TOML that can be read") from None
