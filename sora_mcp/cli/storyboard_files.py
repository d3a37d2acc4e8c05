"""Beats and items as typed at the shell: `2.5s=text`, or a JSON file in the documented form."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click
from msgspec import Struct

from sora_mcp.cli.command_lines import option
from sora_mcp.core.tasks import clean, quoted
from sora_mcp.tools.arguments import MAX_CHARACTERS


def parse_beat(text: str) -> dict[str, str]:
    """Parse `TIME=TEXT` into a beat; TIME is a frame or seconds such as `2.5s`. Raise click's BadParameter."""
    time, equals, description = text.partition("=")
    if not equals or not re.fullmatch(r"\s*(\d+|\d*\.?\d+s)\s*", time):
        raise click.BadParameter(
            f"{quoted(text, 80)} does not begin with a time. Write a frame or seconds, then what is seen: "
            '2.5s="it opens".',
            param_hint="--action",
        )
    return {"time": time.strip(), "description": description}


class FileList(Struct, frozen=True):
    """A list read from a file, with the line on which each of its items begins."""

    path: str
    name: str
    items: list[Any]
    lines: list[int]

    def locate(self, message: str) -> str:
        """Add the file and the line to each mention of an item in an error message."""
        return re.sub(rf"{self.name}\[(\d{{1,4}})\]", self._with_location, message)

    def _with_location(self, match: re.Match[str]) -> str:
        index = int(match[1])
        return f"{self.path}, line {self.lines[index]}, {match[0]}" if index < len(self.lines) else match[0]


def read_file(path: str, name: str) -> FileList:
    """Read a list from a JSON file (or stdin, `-`): the list itself, or an object with it under `name`.

    Raise click's BadParameter, with the line, if the file has no such list.
    """
    param_hint = option(name)
    try:
        with click.open_file(path, encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
        data = [] if len(text) > MAX_CHARACTERS else json.loads(text, object_pairs_hook=_reject_duplicate_keys)
    except _DuplicateKey as error:
        raise click.BadParameter(f"{path}: {error} is given twice.", param_hint=param_hint) from None
    except json.JSONDecodeError as error:
        message = (
            f"{path}, line {error.lineno}, column {error.colno}: this is not JSON ({_describe_json_error(error)})."
        )
        raise click.BadParameter(message, param_hint=param_hint) from None
    except FileNotFoundError:
        raise click.BadParameter(f"There is no file {path}.", param_hint=param_hint) from None
    except (OSError, UnicodeDecodeError, RecursionError):
        raise click.BadParameter(f"{path} cannot be read as a text file.", param_hint=param_hint) from None
    except ValueError:
        raise click.BadParameter(f"{path} holds a number of thousands of digits.", param_hint=param_hint) from None
    if len(text) > MAX_CHARACTERS:
        message = f"{path} is longer than {MAX_CHARACTERS} characters."
        raise click.BadParameter(message, param_hint=param_hint)
    if isinstance(data, dict) and name in data and (other_names := [clean(key, 40) for key in data if key != name]):
        message = f"{path} holds more than {name} ({', '.join(other_names)}): only {name} would be read."
        raise click.BadParameter(message, param_hint=param_hint)
    items = data.get(name) if isinstance(data, dict) else data
    if not isinstance(items, list):
        raise click.BadParameter(f"{path} holds no list of {name}.", param_hint=param_hint)
    result = FileList(path, name, items, list(_item_lines(text)))
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise click.BadParameter(result.locate(f"{name}[{index}]: this is not an object."), param_hint=param_hint)
    return result


class _DuplicateKey(Exception):
    """An object has this key twice."""


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; raise _DuplicateKey for a repeated key, because one of its values would be ignored."""
    members = dict(pairs)
    if len(members) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise _DuplicateKey(clean(name, 40))
    return members


def _describe_json_error(error: json.JSONDecodeError) -> str:
    return (
        "it ends too early"
        if error.pos >= len(error.doc.rstrip())
        else f"near {quoted(error.doc[error.pos : error.pos + 12])}"
    )


def _item_lines(text: str) -> Iterator[int]:
    """Yield the line on which each item of the list begins; the text is a valid list, or an object with one."""
    position = _skip(text, 0)
    if text[position] == "{":
        _, end = _DECODER.raw_decode(text, _skip(text, position + 1))
        position = _skip(text, end, " \t\r\n:")
    position = _skip(text, position + 1)
    while text[position] != "]":
        yield text.count("\n", 0, position) + 1
        position = _skip(text, _DECODER.raw_decode(text, position)[1])


_DECODER = json.JSONDecoder()


def _skip(text: str, position: int, blanks: str = " \t\r\n,") -> int:
    while text[position] in blanks:
        position += 1
    return position
