"""A batch file: one request a line, in JSON. It is read whole, and held to the arguments of the tools, before anything
is sent."""

from __future__ import annotations

import json
import os
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from msgspec import Struct
from msgspec.structs import replace
from pydantic import AfterValidator, BeforeValidator, create_model
from pydantic_core import PydanticCustomError

from sora_mcp.core.batches import BatchLine, digest_of, key_of_name, keys_of_unnamed
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.errors import InvalidInput, Problem, SoraError
from sora_mcp.core.tasks import clean, quoted
from sora_mcp.tools import TABLE
from sora_mcp.tools.arguments import MOST_CHARACTERS, blank_items, closest, parse
from sora_mcp.tools.paid import Paid

MOST_LINES = 10_000
"""Requests of one file."""
MOST_OF_A_NAME = 200
"""Characters."""

TOOLS = {
    "create": "create_video",
    "storyboard": "storyboard_video",
    "remix": "remix_video",
    "blend": "blend_videos",
}
"""The operations of lines, and the tools that they are."""
_ALSO = {tool: tool for tool in TOOLS.values()} | {"simple_compose": "create_video"}


class Request(Struct, frozen=True):
    """One line that asks for a video: its number in the file, from 1; the tool, and its arguments."""

    number: int
    name: str | None
    tool: str
    arguments: Paid
    line: BatchLine


class BadLine(Struct, frozen=True):
    """What is wrong with a line."""

    number: int
    error: SoraError


def read(path: str, limits: Capabilities) -> tuple[list[Request], list[BadLine]]:
    """The requests of a file, or of stdin (`-`), and the lines that cannot be sent. Raises InvalidInput where it is no
    such file at all."""
    file = _open(path)
    is_kept = path != "-" and stat.S_ISREG(Path(path).stat().st_mode)
    with file:
        lines, bad = _lines(file)
    if not lines and not bad:
        raise InvalidInput([Problem(path, "holds no request", "one JSON object a line")])
    requests = []
    for number, text in lines:
        try:
            requests.append(_request(number, text, limits))
        except InvalidInput as error:
            bad.append(BadLine(number, error))
    bad += _repeated(requests)
    if not is_kept:
        bad += [BadLine(request.number, _nameless()) for request in requests if request.name is None]
    return _known_by(_name_of(path) if is_kept else "-", requests), bad


def _open(path: str) -> BinaryIO:
    try:
        if path == "-":
            if sys.stdin is None:
                raise InvalidInput([Problem("standard input", "is closed", "a file, or lines from a pipe")])
            return sys.stdin.buffer
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "that is no name of a file"
        raise InvalidInput([Problem(path, f"cannot be read: {why}")]) from None


def _name_of(path: str) -> str:
    """A file's own name, whatever link leads to it and whatever the locale: bytes that are no UTF-8 are spelled out."""
    return os.fsencode(Path(path).resolve().name).decode("utf-8", "backslashreplace")


def _lines(file: BinaryIO) -> tuple[list[tuple[int, str]], list[BadLine]]:
    """The lines that are not blank, with their numbers; and those that are no text."""
    lines: list[tuple[int, str]] = []
    bad: list[BadLine] = []
    number = 0
    while data := _next(file):
        number += 1
        if number == 1 and data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InvalidInput([Problem("the file", "is in UTF-16", "UTF-8")])
        if len(data) > MOST_CHARACTERS:
            bad.append(_bad(number, f"it is longer than {MOST_CHARACTERS:,} bytes"))
            while data and not data.endswith(b"\n"):
                data = _next(file)
            continue
        try:
            text = data.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").decode().strip(" \t\r\n")
        except UnicodeDecodeError as error:
            bad.append(_bad(number, f"byte {error.start + 1} is not UTF-8", "a file in UTF-8"))
            continue
        if text:
            lines.append((number, text))
        if len(lines) > MOST_LINES:
            raise InvalidInput([Problem("the file", f"holds more than {MOST_LINES:,} requests", "several files")])
    return lines, bad


def _next(file: BinaryIO) -> bytes:
    try:
        return file.readline(MOST_CHARACTERS + 1)
    except OSError as error:
        raise InvalidInput([Problem("the file", f"cannot be read: {error.strerror}")]) from None


def _bad(number: int, wrong: str, allowed: str = "") -> BadLine:
    return BadLine(number, _error(wrong, allowed))


def _error(wrong: str, allowed: str = "") -> InvalidInput:
    error = InvalidInput([])
    error.parts = (f"{wrong[:1].upper()}{wrong[1:]}{f'; allowed: {allowed}' if allowed else ''}.",)
    return error


def _nameless() -> InvalidInput:
    return _error(
        "from standard input a line is known by its own name only, and this one has none",
        'a "name" in each line, or a file',
    )


def _request(number: int, text: str, limits: Capabilities) -> Request:
    """The request of a line; by what it is known is filled in later. Raises InvalidInput."""
    fields = _object(text)
    tool = _tool(fields)
    arguments = parse(_model(tool), fields, limits)
    if blank := blank_items(fields):
        raise InvalidInput(blank)
    if arguments.dry_run:
        raise InvalidInput([Problem("dry_run", "a batch is tried as a whole", "the option --dry-run")])
    name: str | None = getattr(arguments, "name", None)
    asked_for = arguments.model_dump(
        mode="json", exclude_defaults=True, exclude={"name", "operation", "dry_run", "allow_duplicate"}
    )
    return Request(number, name, tool, arguments, BatchLine("", "", digest_of(tool, asked_for)))


def _object(text: str) -> dict[str, Any]:
    """The object that a line holds. Raises InvalidInput."""
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise _error(f"this is not JSON ({_why(error)})", 'an object such as {"prompt": "a fox in the snow"}') from None
    except RecursionError:
        raise _error("it is nested too deeply") from None
    except ValueError:
        raise _error("it holds a number of thousands of digits") from None
    if not isinstance(value, dict):
        raise _error("this is not an object", 'one such as {"prompt": "a fox in the snow"}')
    return value


def _why(error: json.JSONDecodeError) -> str:
    near = clean(error.doc[error.pos : error.pos + 12], 12)
    return "it ends too early" if error.pos >= len(error.doc.rstrip()) else f"near {quoted(near)}"


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InvalidInput([Problem(clean(name, 40), "is given twice", "once")])
    return fields


def _no_number(text: str) -> float:
    raise _error(f"{text} is no number")


def _tool(fields: Mapping[str, Any]) -> str:
    """The tool that a line means. Raises InvalidInput."""
    operation = fields.get("operation") or "create"
    known = TOOLS | _ALSO
    if isinstance(operation, str) and (tool := known.get(operation.strip().lower())):
        return tool
    shown = quoted(operation, 40) if isinstance(operation, str) else "this value"
    near = closest(operation, list(known)) if isinstance(operation, str) else ""
    raise InvalidInput([Problem("operation", f"{shown} is not accepted{near}", ", ".join(TOOLS))])


def _as_name(value: object) -> object:
    """A name as it is written in a table of numbers, too."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _plain(name: str) -> str:
    stripped = unicodedata.normalize("NFC", name.strip())  # the same name, however it was typed
    if len(stripped) > MOST_OF_A_NAME:
        message = f"is longer than {MOST_OF_A_NAME} characters; allowed: a shorter one"
        raise PydanticCustomError("sora", "{message}", {"message": message})
    if not stripped or any(unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp"} for each in stripped):
        raise PydanticCustomError("sora", "holds what cannot be seen; allowed: a text on one line")
    return stripped


@cache
def _model(tool: str) -> type[Paid]:
    """The arguments of a tool, and what only a line of a batch has besides."""
    name = (Annotated[str, BeforeValidator(_as_name), AfterValidator(_plain)] | None, None)
    more: dict[str, Any] = {"name": name, "operation": (str | None, None)}
    return create_model(f"{tool}_line", __base__=TABLE[tool].arguments, **more)


def _repeated(requests: Iterable[Request]) -> Iterator[BadLine]:
    first: dict[str, int] = {}
    for request in requests:
        if request.name is not None and first.setdefault(request.name, request.number) != request.number:
            wrong = f"the name {quoted(request.name)} stands in line {first[request.name]}, too"
            yield _bad(request.number, wrong, "a name of its own for each line")


def _known_by(file: str, requests: list[Request]) -> list[Request]:
    """The requests with what each line is known by."""
    unnamed = iter(keys_of_unnamed(file, (request.line.digest for request in requests if request.name is None)))
    keys = [next(unnamed) if request.name is None else key_of_name(request.name) for request in requests]
    in_file = frozenset(keys)
    return [
        replace(request, line=replace(request.line, file=file, key=key, keys=in_file))
        for request, key in zip(requests, keys, strict=True)
    ]
