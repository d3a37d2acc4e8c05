"""One entry put into, or taken out of, the text of a JSON file; everything else keeps its bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from msgspec import Struct

from sora_mcp.distribution.manifests.product import Document

EMPTY = "{}\n"
"""What a file that is not there, or blank, is taken for."""

_MARK = "\ufeff"
"""What some Windows programs begin a text file with; kept."""

_BLANK = re.compile(r"[ \t\r\n]*")
_INDENTED = re.compile(r"\n([ \t]+)\S")


class NotPlain(ValueError):
    """The text is not JSON of the expected shape, so it is left alone; the message says why."""


class _Member(Struct, frozen=True):
    """A member of an object or a list: its name (none in a list), where it begins, its value, and where that lies."""

    name: str
    start: int
    value: int
    end: int
    held: Any


class _Held(Struct, frozen=True):
    """An object or a list: where it opens and closes, and its members in order."""

    open: int
    close: int
    members: tuple[_Member, ...]

    def find(self, name: str) -> _Member | None:
        return next((member for member in self.members if member.name == name), None)


def entry(text: str, container: str, name: str) -> Document | None:
    """What stands under `container` and `name`. Raises NotPlain."""
    held = _checked(text, container).get(container, {}).get(name)
    if held is not None and not isinstance(held, dict):
        raise NotPlain(f"its {container}.{name} is not an object")
    return held


def with_entry(text: str, container: str, name: str, value: Document) -> str:
    """The text with the entry in it, in the file's own indentation and line ends. Raises NotPlain."""
    if entry(text, container, name) == value:
        return text
    root = _root(text)
    outer = root.find(container)
    if outer is None:
        return _inserted(text, root, _label(container), {name: value})
    held = _held_at(text, outer.value)
    old = held.find(name)
    if old is None:
        return _inserted(text, held, _label(name), value)
    return text[: old.value] + _written(text, value, _margin(text, old.start)) + text[old.end :]


def without_entry(text: str, container: str, name: str, *, keep_container: bool = True) -> str:
    """The text without the entry: what `with_entry` added, and nothing else. Raises NotPlain."""
    if entry(text, container, name) is None:
        return text
    root = _root(text)
    outer = root.find(container)
    assert outer is not None
    held = _held_at(text, outer.value)
    alone = len(held.members) == 1 and not keep_container
    return _cut(text, root, container) if alone else _cut(text, held, name)


def with_items(text: str, name: str, items: Sequence[Document]) -> str:
    """The text with the items in the list of that name, each unless one with its `id` is there. Raises NotPlain."""
    for item in items:
        root = _root(text)
        outer = root.find(name)
        if outer is None:
            text = _inserted(text, root, _label(name), [item])
        elif not isinstance(outer.held, list):
            raise NotPlain(f"its {name} is not a list")
        elif item["id"] not in map(_id, outer.held):
            text = _inserted(text, _held_at(text, outer.value), "", item)
    return text


def without_items(text: str, name: str, ids: Collection[str]) -> str:
    """The text without the items of these ids, and without the list where nothing else stands in it."""
    while (outer := _root(text).find(name)) is not None and isinstance(outer.held, list):
        place = next((i for i, item in enumerate(outer.held) if _id(item) in ids), None)
        if place is None:
            break
        held = _held_at(text, outer.value)
        text = _without(text, held, place) if len(held.members) > 1 else _cut(text, _root(text), name)
    return text


def _id(item: object) -> str:
    value = item.get("id") if isinstance(item, dict) else None
    return value if isinstance(value, str) else ""


def _label(name: str) -> str:
    return f"{json.dumps(name, ensure_ascii=False)}: "


def _cut(text: str, held: _Held, name: str) -> str:
    return _without(text, held, [member.name for member in held.members].index(name))


def _without(text: str, held: _Held, place: int) -> str:
    """The text without one member: what `_inserted` put in, and nothing else."""
    if len(held.members) == 1:
        return text[: held.open + 1] + text[held.close :]
    if place == 0:
        return text[: held.members[0].start] + text[held.members[1].start :]
    return text[: held.members[place - 1].end] + text[held.members[place].end :]


def _checked(text: str, container: str) -> dict[str, Any]:
    try:
        read = json.loads(text.removeprefix(_MARK), object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        raise NotPlain(f"it is not plain JSON (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise NotPlain("it is nested too deep") from None
    except NotPlain:
        raise
    except ValueError:
        raise NotPlain("it holds a number of thousands of digits") from None
    if not isinstance(read, dict):
        raise NotPlain("it holds no object")
    if not isinstance(read.get(container, {}), dict):
        raise NotPlain(f"its {container} is not an object")
    return read


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise NotPlain("it names a key twice")
    return dict(pairs)


def _root(text: str) -> _Held:
    return _held_at(text, len(_MARK) if text.startswith(_MARK) else 0)


def _held_at(text: str, index: int) -> _Held:
    """The object or list that begins at or after `index`, past blanks; the text was read as JSON before."""
    opened = _past_blanks(text, index)
    members = tuple(_members(text, opened))
    return _Held(opened, _past_blanks(text, members[-1].end if members else opened + 1), members)


def _members(text: str, opened: int) -> Iterator[_Member]:
    decoder = json.JSONDecoder()
    start = _past_blanks(text, opened + 1)
    while text[start] not in "}]":
        name, value = "", start
        if text[opened] == "{":
            name, end = decoder.raw_decode(text, start)
            value = _past_blanks(text, _past_blanks(text, end) + 1)  # past the colon
        held, end = decoder.raw_decode(text, value)
        yield _Member(name, start, value, end, held)
        start = _past_blanks(text, end)
        if text[start] == ",":
            start = _past_blanks(text, start + 1)


def _past_blanks(text: str, index: int) -> int:
    match = _BLANK.match(text, index)
    assert match is not None
    return match.end()


def _inserted(text: str, held: _Held, label: str, value: Any) -> str:
    if held.members:
        last = held.members[-1]
        blanks = text[len(text[: last.start].rstrip(" \t\r\n")) : last.start]
        if "\n" not in blanks:  # all on one line
            return f"{text[: last.end]},{blanks}{label}{json.dumps(value, ensure_ascii=False)}{text[last.end :]}"
        written = _written(text, value, _margin(text, last.start))
        return f"{text[: last.end]},{blanks}{label}{written}{text[last.end :]}"
    margin, line_end = _margin(text, held.open), _line_end(text)
    inner = margin + _unit(text)
    written = f"{line_end}{inner}{label}{_written(text, value, inner)}{line_end}{margin}"
    return text[: held.open + 1] + written + text[held.close :]


def _written(text: str, value: Any, margin: str) -> str:
    lines = json.dumps(value, indent=_unit(text), ensure_ascii=False).split("\n")
    return f"{_line_end(text)}{margin}".join(lines)


def _margin(text: str, index: int) -> str:
    """The blanks at the beginning of the line in which `index` lies."""
    line = text[text.rfind("\n", 0, index) + 1 : index]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    match = _INDENTED.search(text)
    return match.group(1) if match else "  "


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
