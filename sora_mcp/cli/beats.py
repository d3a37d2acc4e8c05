"""Beats and items as a person writes them: `2.5s=text`, or a file of the documented form."""

from __future__ import annotations

import json
import re
from typing import Any

import click


def parse(text: str) -> dict[str, str]:
    """`TIME=TEXT` → a beat; TIME is a frame or seconds such as `2.5s`."""
    time, equals, description = text.partition("=")
    if not equals or not re.fullmatch(r"\s*(\d+|\d*\.?\d+s)\s*", time):
        raise click.BadParameter(
            f'{text!r} does not begin with a time. Write a frame or seconds, then what is seen: 2.5s="it opens".',
            param_hint="--action",
        )
    return {"time": time.strip(), "description": description}


def read_file(path: str, name: str) -> list[Any]:
    """The list in a JSON file (or stdin, `-`): the list itself, or an object that holds it under `name`.

    Raises click's BadParameter, naming the line, where it is no such list.
    """
    hint = f"--{name.replace('_', '-')}"
    try:
        with click.open_file(path, encoding="utf-8") as file:
            text = file.read()
        data = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"{path}, line {error.lineno}, column {error.colno}: this is not JSON ({_why(error)})."
        raise click.BadParameter(message, param_hint=hint) from None
    except (OSError, UnicodeDecodeError, RecursionError):
        raise click.BadParameter(f"{path} cannot be read as a text file.", param_hint=hint) from None
    found = data.get(name) if isinstance(data, dict) else data
    if not isinstance(found, list):
        raise click.BadParameter(f"{path} holds no list of {name}.", param_hint=hint)
    for index, item in enumerate(found):
        if not isinstance(item, dict):
            line = _line_of(text, index)
            raise click.BadParameter(f"{path}, line {line}, {name}[{index}]: this is not an object.", param_hint=hint)
    return found


def _why(error: json.JSONDecodeError) -> str:
    return (
        "it ends too early"
        if error.pos >= len(error.doc.rstrip())
        else f"near {error.doc[error.pos : error.pos + 12]!r}"
    )


def _line_of(text: str, index: int) -> int:
    """The line on which element `index` of the first list in `text` begins."""
    decoder = json.JSONDecoder()
    at = text.index("[") + 1
    for _ in range(index):
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
        _, at = decoder.raw_decode(text, at)
    at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
    return text.count("\n", 0, at) + 1
