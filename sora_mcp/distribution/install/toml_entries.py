"""One entry changed in the text of Codex's TOML file; tomlkit keeps every byte of the rest."""

from __future__ import annotations

from typing import Any

from sora_mcp.distribution.install.entries import NotPlain
from sora_mcp.distribution.manifests.product import Document


def entry(text: str, container: str, name: str) -> Document | None:
    """What stands under `container` and `name`. Raises NotPlain."""
    servers = _parsed(text).unwrap().get(container, {})
    held = servers.get(name) if isinstance(servers, dict) else None
    if not isinstance(servers, dict) or not isinstance(held, dict | None):
        raise NotPlain(f"its {container}.{name} is not a table")
    for key, kind in (("env", dict), ("env_vars", list)):
        if held is not None and not isinstance(held.get(key, kind()), kind):
            raise NotPlain(f"its {container}.{name}.{key} is not what Codex takes")
    return held


def with_entry(text: str, container: str, name: str, value: Document) -> str:
    """The text in which the entry that is there has these values. Raises NotPlain where it is written otherwise."""
    from tomlkit.items import InlineTable  # noqa: PLC0415 - as below

    document = _parsed(text)
    expected, table = document.unwrap(), document[container][name]
    if isinstance(table, InlineTable) or any(isinstance(each, dict) for each in value.get("env_vars", [])):
        raise NotPlain("it is written in another form than Codex's own")
    wanted = {key: each for key, each in value.items() if each != {} or key in table}  # a file need not say empty ones
    expected[container][name] = wanted
    _update(table, wanted)
    written: str = document.as_string()
    if "\r\n" in text and text.count("\r\n") == text.count("\n"):  # tomlkit ends new lines with \n
        written = written.replace("\r\n", "\n").replace("\n", "\r\n")
    if _parsed(written).unwrap() != expected:
        raise NotPlain("it is written in another form than Codex's own")
    return written


def _update(table: Any, value: Document) -> None:
    for key, each in value.items():
        if isinstance(each, dict) and key in table:
            _update(table[key], each)
        elif table.get(key) != each:
            table[key] = each
            table[key].trivia.comment_ws = table[key].trivia.comment = ""  # it was about the old value


def _parsed(text: str) -> Any:
    import tomlkit  # noqa: PLC0415 - for the one client whose file is TOML

    try:
        return tomlkit.parse(text)
    except (ValueError, RecursionError):
        raise NotPlain("it is not TOML that can be read") from None
