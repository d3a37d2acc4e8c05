"""Beats and items as a person writes them: `2.5s=text`, or a file of the documented form."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click
from msgspec import Struct

from sora_mcp.cli.pasting import option
from sora_mcp.core.tasks import clean, quoted
from sora_mcp.tools.arguments import MOST_CHARACTERS

_NOTHING_SENT = "Nothing was submitted."


def parse(text: str) -> dict[str, str]:
    """`TIME=TEXT` → a beat; TIME is a frame or seconds such as `2.5s`."""
    time, equals, description = text.partition("=")
    if not equals or not re.fullmatch(r"\s*(\d+|\d*\.?\d+s)\s*", time):
        raise click.BadParameter(
            f"{quoted(text, 80)} does not begin with a time. Write a frame or seconds, then what is seen: "
            '2.5s="it opens".',
            param_hint="--action",
        )
    return {"time": time.strip(), "description": description}


class FromFile(Struct, frozen=True):
    """A list of the documented form that was read from a file, and the line on which each of its items begins."""

    path: str
    name: str
    items: list[Any]
    lines: list[int]

    def place(self, message: str) -> str:
        """What is wrong with an item, with the line on which it stands."""
        return re.sub(rf"{self.name}\[(\d{{1,4}})\]", self._placed, message)

    def _placed(self, match: re.Match[str]) -> str:
        index = int(match[1])
        return f"{self.path}, line {self.lines[index]}, {match[0]}" if index < len(self.lines) else match[0]


def read_file(path: str, name: str) -> FromFile:
    """The list in a JSON file (or stdin, `-`): the list itself, or an object that holds it under `name`.

    Raises click's BadParameter, naming the line, where it is no such list.
    """
    hint = option(name)
    try:
        with click.open_file(path, encoding="utf-8-sig") as file:
            text = file.read(MOST_CHARACTERS + 1)
        data = [] if len(text) > MOST_CHARACTERS else json.loads(text, object_pairs_hook=_without_repeats)
    except _GivenTwice as error:
        raise click.BadParameter(f"{path}: {error} is given twice. {_NOTHING_SENT}", param_hint=hint) from None
    except json.JSONDecodeError as error:
        message = f"{path}, line {error.lineno}, column {error.colno}: this is not JSON ({_why(error)})."
        raise click.BadParameter(message, param_hint=hint) from None
    except (OSError, UnicodeDecodeError, RecursionError):
        raise click.BadParameter(f"{path} cannot be read as a text file.", param_hint=hint) from None
    except ValueError:
        raise click.BadParameter(f"{path} holds a number of thousands of digits.", param_hint=hint) from None
    if len(text) > MOST_CHARACTERS:
        message = f"{path} is longer than {MOST_CHARACTERS} characters. {_NOTHING_SENT}"
        raise click.BadParameter(message, param_hint=hint)
    if isinstance(data, dict) and name in data and (others := [clean(key, 40) for key in data if key != name]):
        message = f"{path} holds more than {name} ({', '.join(others)}): only {name} would be read. {_NOTHING_SENT}"
        raise click.BadParameter(message, param_hint=hint)
    items = data.get(name) if isinstance(data, dict) else data
    if not isinstance(items, list):
        raise click.BadParameter(f"{path} holds no list of {name}.", param_hint=hint)
    read = FromFile(path, name, items, list(_lines(text)))
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise click.BadParameter(read.place(f"{name}[{index}]: this is not an object."), param_hint=hint)
    return read


class _GivenTwice(Exception):
    """The name of a member that an object has twice."""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose members have different names: of two, one would not be read. Raises _GivenTwice."""
    members = dict(pairs)
    if len(members) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise _GivenTwice(clean(name, 40))
    return members


def _why(error: json.JSONDecodeError) -> str:
    return (
        "it ends too early"
        if error.pos >= len(error.doc.rstrip())
        else f"near {quoted(error.doc[error.pos : error.pos + 12])}"
    )


def _lines(text: str) -> Iterator[int]:
    """The line on which each item of the list begins; the text was read before: a list, or an object that holds it."""
    at = _past(text, 0)
    if text[at] == "{":
        _, end = _DECODER.raw_decode(text, _past(text, at + 1))
        at = _past(text, end, " \t\r\n:")
    at = _past(text, at + 1)
    while text[at] != "]":
        yield text.count("\n", 0, at) + 1
        at = _past(text, _DECODER.raw_decode(text, at)[1])


_DECODER = json.JSONDecoder()


def _past(text: str, at: int, blanks: str = " \t\r\n,") -> int:
    while text[at] in blanks:
        at += 1
    return at
