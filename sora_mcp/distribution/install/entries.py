"""Adding an entry to the text of a JSON file, or removing it; everything else stays byte for byte the same."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from msgspec import Struct

from sora_mcp.distribution.manifests.product import Document

EMPTY = "{}\n"
"""What a missing or blank file is treated as."""

_BOM = "\ufeff"
"""The byte order mark with which some Windows programs begin a text file; kept."""

_BLANK = re.compile(r"[ \t\r\n]*")
_INDENT = re.compile(r"\n([ \t]+)\S")


class NotEditable(ValueError):
    """The text is not in the expected format, so it is left unchanged; the message says why."""


class _Member(Struct, frozen=True):
    """A member of an object or a list. `name` is empty in a list.

    `start`: where it begins; `value_start` and `end`: where its value begins and ends.
    """

    name: str
    start: int
    value_start: int
    end: int
    value: Any


class _Node(Struct, frozen=True):
    """An object or a list: the positions of its brackets, and its members in order."""

    open: int
    close: int
    members: tuple[_Member, ...]

    def find(self, name: str) -> _Member | None:
        return next((member for member in self.members if member.name == name), None)


def entry(text: str, container: str, name: str) -> Document | None:
    """Return the entry `name` in `container`, or None. Raises NotEditable."""
    value = _parse(text, container).get(container, {}).get(name)
    if value is not None and not isinstance(value, dict):
        raise NotEditable(f"its {container}.{name} is not an object")
    return value


def with_entry(text: str, container: str, name: str, value: Document) -> str:
    """Return the text with the entry, in the file's own indentation and line endings. Raises NotEditable."""
    if entry(text, container, name) == value:
        return text
    root = _root(text)
    member = root.find(container)
    if member is None:
        return _insert(text, root, _label(container), {name: value})
    servers = _node_at(text, member.value_start)
    old = servers.find(name)
    if old is None:
        return _insert(text, servers, _label(name), value)
    return text[: old.value_start] + _dump(text, value, _indent_at(text, old.start)) + text[old.end :]


def without_entry(text: str, container: str, name: str, *, keep_container: bool = True) -> str:
    """Return the text without the entry: removes what `with_entry` added, and nothing else. Raises NotEditable."""
    if entry(text, container, name) is None:
        return text
    root = _root(text)
    member = root.find(container)
    assert member is not None
    servers = _node_at(text, member.value_start)
    is_last = len(servers.members) == 1 and not keep_container
    return _remove(text, root, container) if is_last else _remove(text, servers, name)


def with_items(text: str, name: str, items: Sequence[Document]) -> str:
    """Return the text with the items in the list `name`, except those whose `id` is in it. Raises NotEditable."""
    for item in items:
        root = _root(text)
        member = root.find(name)
        if member is None:
            text = _insert(text, root, _label(name), [item])
        elif not isinstance(member.value, list):
            raise NotEditable(f"its {name} is not a list")
        elif item["id"] not in map(_id, member.value):
            text = _insert(text, _node_at(text, member.value_start), "", item)
    return text


def without_items(text: str, name: str, ids: Collection[str]) -> str:
    """Return the text without the items with these ids, and without the list if it is then empty."""
    while (member := _root(text).find(name)) is not None and isinstance(member.value, list):
        index = next((i for i, item in enumerate(member.value) if _id(item) in ids), None)
        if index is None:
            break
        items = _node_at(text, member.value_start)
        text = _remove_at(text, items, index) if len(items.members) > 1 else _remove(text, _root(text), name)
    return text


def _id(item: object) -> str:
    value = item.get("id") if isinstance(item, dict) else None
    return value if isinstance(value, str) else ""


def _label(name: str) -> str:
    return f"{json.dumps(name, ensure_ascii=False)}: "


def _remove(text: str, node: _Node, name: str) -> str:
    return _remove_at(text, node, [member.name for member in node.members].index(name))


def _remove_at(text: str, node: _Node, index: int) -> str:
    """Return the text without one member: removes what `_insert` added, and nothing else."""
    if len(node.members) == 1:
        return text[: node.open + 1] + text[node.close :]
    if index == 0:
        return text[: node.members[0].start] + text[node.members[1].start :]
    return text[: node.members[index - 1].end] + text[node.members[index].end :]


def _parse(text: str, container: str) -> dict[str, Any]:
    try:
        document = json.loads(text.removeprefix(_BOM), object_pairs_hook=_reject_duplicates)
    except json.JSONDecodeError as error:
        raise NotEditable(f"it is not plain JSON (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise NotEditable("it is nested too deep") from None
    except NotEditable:
        raise
    except ValueError:
        raise NotEditable("it contains a number with thousands of digits") from None
    if not isinstance(document, dict):
        raise NotEditable("it contains no object")
    if not isinstance(document.get(container, {}), dict):
        raise NotEditable(f"its {container} is not an object")
    return document


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise NotEditable("it names a key twice")
    return dict(pairs)


def _root(text: str) -> _Node:
    return _node_at(text, len(_BOM) if text.startswith(_BOM) else 0)


def _node_at(text: str, index: int) -> _Node:
    """Return the object or list that begins at `index` or after blanks there; the text is known to be valid JSON."""
    bracket = _skip_blanks(text, index)
    members = tuple(_members(text, bracket))
    return _Node(bracket, _skip_blanks(text, members[-1].end if members else bracket + 1), members)


def _members(text: str, bracket: int) -> Iterator[_Member]:
    decoder = json.JSONDecoder()
    start = _skip_blanks(text, bracket + 1)
    while text[start] not in "}]":
        name, value_start = "", start
        if text[bracket] == "{":
            name, end = decoder.raw_decode(text, start)
            value_start = _skip_blanks(text, _skip_blanks(text, end) + 1)  # past the colon
        value, end = decoder.raw_decode(text, value_start)
        yield _Member(name, start, value_start, end, value)
        start = _skip_blanks(text, end)
        if text[start] == ",":
            start = _skip_blanks(text, start + 1)


def _skip_blanks(text: str, index: int) -> int:
    match = _BLANK.match(text, index)
    assert match is not None
    return match.end()


def _insert(text: str, node: _Node, label: str, value: Any) -> str:
    if node.members:
        last = node.members[-1]
        blanks = text[len(text[: last.start].rstrip(" \t\r\n")) : last.start]
        if "\n" not in blanks:  # all on one line
            return f"{text[: last.end]},{blanks}{label}{json.dumps(value, ensure_ascii=False)}{text[last.end :]}"
        dumped = _dump(text, value, _indent_at(text, last.start))
        return f"{text[: last.end]},{blanks}{label}{dumped}{text[last.end :]}"
    indent, line_end = _indent_at(text, node.open), _line_end(text)
    inner_indent = indent + _indent_unit(text)
    dumped = f"{line_end}{inner_indent}{label}{_dump(text, value, inner_indent)}{line_end}{indent}"
    return text[: node.open + 1] + dumped + text[node.close :]


def _dump(text: str, value: Any, indent: str) -> str:
    lines = json.dumps(value, indent=_indent_unit(text), ensure_ascii=False).split("\n")
    return f"{_line_end(text)}{indent}".join(lines)


def _indent_at(text: str, index: int) -> str:
    """Return the indentation of the line that contains `index`."""
    line = text[text.rfind("\n", 0, index) + 1 : index]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _indent_unit(text: str) -> str:
    match = _INDENT.search(text)
    return match.group(1) if match else "  "


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
