"""One entry changed in the text of a TOML file that has one `key = value` a line, as Codex writes it.

Everything else keeps its bytes, and a file in which anything else would change is left alone.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from sora_mcp.distribution.install.entries import NotPlain
from sora_mcp.distribution.manifests.product import Document


def entry(text: str, container: str, name: str) -> Document | None:
    """What stands under `container` and `name`. Raises NotPlain."""
    servers = _loaded(text).get(container, {})
    held = servers.get(name) if isinstance(servers, dict) else None
    if not isinstance(servers, dict) or not isinstance(held, dict | None):
        raise NotPlain(f"its {container}.{name} is no table")
    for key, kind in (("env", dict), ("env_vars", list)):
        if held is not None and not isinstance(held.get(key, kind()), kind):
            raise NotPlain(f"its {container}.{name}.{key} is not what Codex takes")
    return held


def with_entry(text: str, container: str, name: str, value: Document) -> str:
    """The text in which the entry that is there has these values. Raises NotPlain where it is written otherwise."""
    held, expected = entry(text, container, name) or {}, _loaded(text)
    for table, key, each in _lines(f"{container}.{name}", held, value):
        text = _with_line(text, table, key, each)
    expected.setdefault(container, {})[name] = value
    try:
        if _bare(tomllib.loads(text)) == _bare(expected):
            return text
    except ValueError:  # a line stands twice, perhaps
        pass
    raise NotPlain("it is written in another form than Codex's own")


def _lines(table: str, held: Document, value: Document) -> Iterator[tuple[str, str, object]]:
    """The lines in which a table differs, and the tables in it."""
    for key, each in value.items():
        if isinstance(each, dict):
            yield from _lines(f"{table}.{key}", held.get(key, {}), each)
        elif held.get(key) != each:
            yield table, key, each


def _bare(value: Any) -> Any:
    """Without empty tables: a file need not say them."""
    if not isinstance(value, dict):
        return value
    return {key: _bare(each) for key, each in value.items() if each != {}}


def _loaded(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        raise NotPlain("it is not TOML that can be read") from None


def _with_line(text: str, table: str, key: str, value: object) -> str:
    """The text with one line of a table set; the table is added at the end where there is none."""
    line_end = "\r\n" if "\r\n" in text else "\n"
    line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    header = re.search(rf"(?m)^\[{re.escape(table)}\][ \t]*(?:#[^\n]*)?(?:\n|\r\n|\Z)", text)
    if header is None:
        return f"{text.rstrip()}{line_end}{line_end}[{table}]{line_end}{line}{line_end}"
    after = re.compile(r"(?m)^[ \t]*\[").search(text, header.end())
    end = after.start() if after else len(text)
    old = re.compile(rf"(?m)^[ \t]*{re.escape(key)}[ \t]*=[^\r\n]*").search(text, header.end(), end)
    if old is not None:
        return text[: old.start()] + line + text[old.end() :]
    return text[: header.end()] + line + line_end + text[header.end() :]
