"""Batch files: one JSON request a line. A file is read and validated as a whole before anything is sent."""

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

from sora_mcp.cli.command_lines import command
from sora_mcp.cli.videos import command_for
from sora_mcp.core.batches import BatchLine, digest_of, key_of_name, keys_of_unnamed
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.errors import InvalidInput, Problem, SoraError
from sora_mcp.core.tasks import clean, quoted
from sora_mcp.tools import TABLE
from sora_mcp.tools.arguments import MAX_CHARACTERS, blank_items, did_you_mean, parse
from sora_mcp.tools.paid import Paid

MAX_LINES = 10_000
"""Requests of one file."""
MAX_NAME_LENGTH = 200
"""Characters."""

TOOLS = {
    "create": "create_video",
    "storyboard": "storyboard_video",
    "remix": "remix_video",
    "blend": "blend_videos",
}
"""The tool for each operation that a line can name."""
_TOOL_ALIASES = {tool: tool for tool in TOOLS.values()} | {"simple_compose": "create_video"}


class Request(Struct, frozen=True):
    """One line that requests a video: its number in the file, from 1, the tool and its arguments."""

    number: int
    name: str | None
    tool: str
    arguments: Paid
    line: BatchLine


class BadLine(Struct, frozen=True):
    """A line that cannot be sent, with the reason."""

    number: int
    error: SoraError


def read(path: str, limits: Capabilities) -> tuple[list[Request], list[BadLine]]:
    """Return the requests of a file, or of stdin (`-`), and the lines that cannot be sent.

    Raise InvalidInput if the file cannot be read or holds no request.
    """
    file = _open(path)
    is_regular_file = path != "-" and stat.S_ISREG(Path(path).stat().st_mode)
    with file:
        lines, bad = _read_lines(file)
    if not lines and not bad:
        raise InvalidInput([Problem(path, "contains no requests", "one JSON object per line")])
    requests = []
    for number, text in lines:
        try:
            requests.append(_parse_request(number, text, limits))
        except InvalidInput as error:
            bad.append(BadLine(number, error))
    bad += _find_repeated_names(requests)
    if not is_regular_file:
        bad += [BadLine(request.number, _missing_name_error()) for request in requests if request.name is None]
    return _with_keys(_file_name(path) if is_regular_file else "-", requests), bad


def _open(path: str) -> BinaryIO:
    try:
        if path == "-":
            if sys.stdin is None:
                raise InvalidInput([Problem("standard input", "is closed", "a file, or lines from a pipe")])
            return sys.stdin.buffer
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a valid file name"
        raise InvalidInput([Problem(path, f"cannot be read: {reason}")]) from None


def _file_name(path: str) -> str:
    """Return a file's own name, with links resolved, in any locale: bytes that are not UTF-8 are escaped."""
    return os.fsencode(Path(path).resolve().name).decode("utf-8", "backslashreplace")


def _read_lines(file: BinaryIO) -> tuple[list[tuple[int, str]], list[BadLine]]:
    """Return the lines that are not blank, with their numbers, and those that are not text."""
    lines: list[tuple[int, str]] = []
    bad: list[BadLine] = []
    number = 0
    while data := _read_line(file):
        number += 1
        if number == 1 and data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InvalidInput([Problem("the file", "is in UTF-16", "UTF-8")])
        if len(data) > MAX_CHARACTERS:
            bad.append(_bad_line(number, f"it is longer than {MAX_CHARACTERS:,} bytes"))
            while data and not data.endswith(b"\n"):
                data = _read_line(file)
            continue
        try:
            text = data.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").decode().strip(" \t\r\n")
        except UnicodeDecodeError as error:
            bad.append(_bad_line(number, f"byte {error.start + 1} is not UTF-8", "a file in UTF-8"))
            continue
        if text:
            lines.append((number, text))
        if len(lines) > MAX_LINES:
            raise InvalidInput([Problem("the file", f"holds more than {MAX_LINES:,} requests", "several files")])
    return lines, bad


def _read_line(file: BinaryIO) -> bytes:
    try:
        return file.readline(MAX_CHARACTERS + 1)
    except OSError as error:
        raise InvalidInput([Problem("the file", f"cannot be read: {error.strerror}")]) from None


def _bad_line(number: int, problem: str, allowed: str = "") -> BadLine:
    return BadLine(number, _error(problem, allowed))


def _error(problem: str, allowed: str = "") -> InvalidInput:
    error = InvalidInput([])
    error.parts = (f"{problem[:1].upper()}{problem[1:]}{f'; allowed: {allowed}' if allowed else ''}.",)
    return error


def _missing_name_error() -> InvalidInput:
    return _error(
        "a line from standard input needs a name, and this one has none",
        'a "name" in each line, or a file',
    )


def _parse_request(number: int, text: str, limits: Capabilities) -> Request:
    """Parse the request of a line; its key is filled in later. Raise InvalidInput."""
    fields = _parse_object(text)
    tool = _find_tool(fields)
    arguments = parse(_arguments_model(tool), fields, limits, _format_tool)
    if blank := blank_items(fields):
        raise InvalidInput(blank)
    if arguments.dry_run:
        raise InvalidInput([Problem("dry_run", "a dry run covers the whole batch", "the option --dry-run")])
    name: str | None = getattr(arguments, "name", None)
    explicit_arguments = arguments.model_dump(
        mode="json", exclude_defaults=True, exclude={"name", "operation", "dry_run", "allow_duplicate"}
    )
    return Request(number, name, tool, arguments, BatchLine("", "", digest_of(tool, explicit_arguments)))


def _format_tool(tool: str, field: str) -> str:
    """Return how another tool with one of its arguments is written: as a line, or as the command for what is free."""
    operation = next((name for name, each in TOOLS.items() if each == tool), None)
    return f'"operation": "{operation}" with {field}' if operation else f"`{command(command_for(tool))}`"


def _parse_object(text: str) -> dict[str, Any]:
    """Parse a line as a JSON object. Raise InvalidInput."""
    try:
        value = json.loads(text, object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant)
    except json.JSONDecodeError as error:
        raise _error(
            f"this is not JSON ({_describe_json_error(error)})", 'an object such as {"prompt": "a fox in the snow"}'
        ) from None
    except RecursionError:
        raise _error("it is nested too deeply") from None
    except ValueError:
        raise _error("it contains a number with thousands of digits") from None
    if not isinstance(value, dict):
        raise _error("this is not an object", 'one such as {"prompt": "a fox in the snow"}')
    return value


def _describe_json_error(error: json.JSONDecodeError) -> str:
    near = clean(error.doc[error.pos : error.pos + 12], 12)
    return "it ends too early" if error.pos >= len(error.doc.rstrip()) else f"near {quoted(near)}"


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InvalidInput([Problem(clean(name, 40), "is given twice", "once")])
    return fields


def _reject_constant(text: str) -> float:
    raise _error(f"{text} is not JSON", "a number")


def _find_tool(fields: Mapping[str, Any]) -> str:
    """Return the tool for a line. Raise InvalidInput."""
    operation = fields.get("operation") or "create"
    tools = TOOLS | _TOOL_ALIASES
    if isinstance(operation, str) and (tool := tools.get(operation.strip().lower())):
        return tool
    text = quoted(operation, 40) if isinstance(operation, str) else "this value"
    near = did_you_mean(operation, list(tools)) if isinstance(operation, str) else ""
    raise InvalidInput([Problem("operation", f"{text} is not accepted{near}", ", ".join(TOOLS))])


def _number_as_text(value: object) -> object:
    """Accept a number as a name: that is how a spreadsheet exports one."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _validate_name(name: str) -> str:
    stripped = unicodedata.normalize("NFC", name.strip())  # the same name, however it was typed
    if len(stripped) > MAX_NAME_LENGTH:
        message = f"is longer than {MAX_NAME_LENGTH} characters; allowed: a shorter name"
        raise PydanticCustomError("sora", "{message}", {"message": message})
    if not stripped or any(unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp"} for each in stripped):
        raise PydanticCustomError("sora", "is blank or has invisible characters; allowed: visible text on one line")
    return stripped


@cache
def _arguments_model(tool: str) -> type[Paid]:
    """Return the model of a tool's arguments, with the extra fields of a batch line."""
    name = (Annotated[str, BeforeValidator(_number_as_text), AfterValidator(_validate_name)] | None, None)
    extra_fields: dict[str, Any] = {"name": name, "operation": (str | None, None)}
    return create_model(f"{tool}_line", __base__=TABLE[tool].arguments, **extra_fields)


def _find_repeated_names(requests: Iterable[Request]) -> Iterator[BadLine]:
    first: dict[str, int] = {}
    for request in requests:
        if request.name is not None and first.setdefault(request.name, request.number) != request.number:
            problem = f"the name {quoted(request.name)} is already used in line {first[request.name]}"
            yield _bad_line(request.number, problem, "a name of its own for each line")


def _with_keys(file: str, requests: list[Request]) -> list[Request]:
    """Return the requests with the key of each line."""
    unnamed = iter(keys_of_unnamed(file, (request.line.digest for request in requests if request.name is None)))
    keys = [next(unnamed) if request.name is None else key_of_name(request.name) for request in requests]
    in_file = frozenset(keys)
    return [
        replace(request, line=replace(request.line, file=file, key=key, keys=in_file))
        for request, key in zip(requests, keys, strict=True)
    ]
