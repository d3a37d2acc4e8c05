"""One entry put into, or taken out of, the text of a JSON file; everything else keeps its bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sora_mcp.manifests.product import Document

EMPTY = "{}\n"
"""What a file that is not there, or blank, is taken for."""

_MARK = "\ufeff"
"""What some Windows programs begin a text file with; kept."""

_BLANK = re.compile(r"[ \t\r\n]*")
_INDENTED = re.compile(r"\n([ \t]+)\S")


class NotPlain(ValueError):
    """The text is not JSON of the expected shape, so it is left alone; the message says why."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of an object or a list: where it begins, and where it ends."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Member(_Part):
    """A member of an object, which begins at the quote of its name; where its value begins."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class _Object:
    """An object: where it opens and closes, and its members in order."""

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
        return _inserted(text, root, container, {name: value})
    held = _object_at(text, outer.value)
    old = held.find(name)
    if old is None:
        return _inserted(text, held, name, value)
    return text[: old.value] + _written(text, value, _margin(text, old.start)) + text[old.end :]


def without_entry(text: str, container: str, name: str, *, keep_container: bool = True) -> str:
    """The text without the entry: what `with_entry` added, and nothing else. Raises NotPlain."""
    if entry(text, container, name) is None:
        return text
    root = _root(text)
    outer = root.find(container)
    assert outer is not None
    held = _object_at(text, outer.value)
    if len(held.members) == 1 and not keep_container:
        return _without(text, root.open, root.members, root.members.index(outer), root.close)
    place = next(index for index, member in enumerate(held.members) if member.name == name)
    return _without(text, held.open, held.members, place, held.close)


def without_items(text: str, name: str, ids: list[str]) -> str:
    """The text without those objects of the list under `name` that have one of these ids. Raises NotPlain."""
    for gone in ids:
        listed = _root(text).find(name)
        held = _checked(text, "").get(name)
        if listed is None or not isinstance(held, list):
            continue
        found = [each.get("id") if isinstance(each, dict) else None for each in held]
        if gone in found:
            items = tuple(_items(text, listed.value + 1))
            text = _without(text, listed.value, items, found.index(gone), listed.end - 1)
    return text


def _without(text: str, opened: int, parts: tuple[_Part, ...], place: int, close: int) -> str:
    """The text without one of the parts between two brackets, and without the comma that is left over."""
    if len(parts) == 1:
        return text[: opened + 1] + text[close:]
    if place == 0:
        return text[: parts[0].start] + text[parts[1].start :]
    return text[: parts[place - 1].end] + text[parts[place].end :]


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


def _root(text: str) -> _Object:
    return _object_at(text, len(_MARK) if text.startswith(_MARK) else 0)


def _object_at(text: str, index: int) -> _Object:
    """The object that begins at or after `index`, past blanks; the text was read as JSON before."""
    opened = _past_blanks(text, index)
    members = tuple(_members(text, opened + 1))
    return _Object(opened, _past_blanks(text, members[-1].end if members else opened + 1), members)


def _members(text: str, index: int) -> Iterator[_Member]:
    decoder = json.JSONDecoder()
    start = _past_blanks(text, index)
    while text[start] == '"':
        name, end = decoder.raw_decode(text, start)
        value = _past_blanks(text, _past_blanks(text, end) + 1)  # past the colon
        _, end = decoder.raw_decode(text, value)
        yield _Member(start, end, name, value)
        start = _past_blanks(text, end)
        if text[start] == ",":
            start = _past_blanks(text, start + 1)


def _items(text: str, index: int) -> Iterator[_Part]:
    start = _past_blanks(text, index)
    while text[start] != "]":
        _, end = json.JSONDecoder().raw_decode(text, start)
        yield _Part(start, end)
        start = _past_blanks(text, end)
        if text[start] == ",":
            start = _past_blanks(text, start + 1)


def _past_blanks(text: str, index: int) -> int:
    found = _BLANK.match(text, index)
    assert found is not None
    return found.end()


def _inserted(text: str, held: _Object, name: str, value: Document) -> str:
    quoted = json.dumps(name, ensure_ascii=False)
    if held.members:
        last = held.members[-1]
        blanks = text[len(text[: last.start].rstrip(" \t\r\n")) : last.start]
        if "\n" not in blanks:  # all on one line
            return f"{text[: last.end]},{blanks}{quoted}: {json.dumps(value, ensure_ascii=False)}{text[last.end :]}"
        written = _written(text, value, _margin(text, last.start))
        return f"{text[: last.end]},{blanks}{quoted}: {written}{text[last.end :]}"
    margin, line_end = _margin(text, held.open), _line_end(text)
    inner = margin + _unit(text)
    written = f"{line_end}{inner}{quoted}: {_written(text, value, inner)}{line_end}{margin}"
    return text[: held.open + 1] + written + text[held.close :]


def _written(text: str, value: Document, margin: str) -> str:
    lines = json.dumps(value, indent=_unit(text), ensure_ascii=False).split("\n")
    return f"{_line_end(text)}{margin}".join(lines)


def _margin(text: str, index: int) -> str:
    """The blanks at the beginning of the line in which `index` lies."""
    line = text[text.rfind("\n", 0, index) + 1 : index]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    found = _INDENTED.search(text)
    return found.group(1) if found else "  "


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
