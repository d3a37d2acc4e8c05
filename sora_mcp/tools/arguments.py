"""Arguments as clients really send them → a validated model, or an InvalidInput in our own words.

Clients send `null`, `"null"` and `""` for an optional field, numbers as strings, and nested objects
as JSON text; all of that is accepted. An argument we do not know never is.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.tasks import clean
from sora_mcp.tools.schema import Schema, emit

M = TypeVar("M", bound=BaseModel)

_LARGEST = 2**53 - 1
"""The largest whole number that every JSON reader reads alike (RFC 8259 §6)."""


MOST_CHARACTERS = 8_000_000
"""Of one message, or of arguments that are written as JSON text: beyond that nothing is read."""
MOST_ITEMS = 1000
"""Of one list."""


HALF = "\uffff"
"""A noncharacter that stands for half a character where a reader of JSON would not let that through."""


def parse(model: type[M], arguments: object) -> M:
    """The validated arguments. Raises InvalidInput, which names every problem and what is allowed instead."""
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidInput([Problem("arguments", "are not an object", "named arguments")])
    try:
        parsed = model.model_validate(_tidy(model, arguments or {}))
    except ValidationError as error:
        schema = emit(model, describe=False)
        raise InvalidInput([_problem(details, schema) for details in error.errors(include_url=False)]) from None
    if problems := list(_unsendable(parsed.model_dump())):
        raise InvalidInput(problems)
    return parsed


def closest(word: str, known: list[str]) -> str:
    """` (did you mean …?)` where one of `known` looks like `word`, else nothing."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _tidy(model: type[BaseModel], arguments: dict[str, Any]) -> dict[str, Any]:
    tidied = {}
    for name, value in arguments.items():
        field = model.model_fields.get(name)
        if field is None:
            tidied[name] = value
            continue
        if not field.is_required() and (value is None or (isinstance(value, str) and value.strip() in {"", "null"})):
            continue
        tidied[name] = _tidy_value(field.annotation, value, name)
    return tidied


def _tidy_value(annotation: Any, value: Any, name: str) -> Any:
    model = _nested(annotation)
    if model is None:
        # pydantic takes true for 1; as text it is refused like any other text that is no number
        no_truth = isinstance(value, bool) and annotation is not bool
        return json.dumps(value) if no_truth else value
    value = _from_text(value, name)
    if not isinstance(value, list):
        return _tidy_item(model, value, name)
    if len(value) > MOST_ITEMS:
        raise InvalidInput([Problem(name, f"has {len(value)} items", f"at most {MOST_ITEMS}")])
    return [_tidy_item(model, each, name) for each in value]


def _tidy_item(model: type[BaseModel], value: Any, name: str) -> Any:
    value = _from_text(value, name)
    return _tidy(model, value) if isinstance(value, dict) else value


def _from_text(value: Any, name: str) -> Any:
    if not isinstance(value, str) or value.lstrip()[:1] not in {"[", "{"}:
        return value
    if len(value) > MOST_CHARACTERS:
        raise InvalidInput([Problem(name, f"is {len(value)} characters long", f"at most {MOST_CHARACTERS}")])
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _nested(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, or holds a list of; None for a plain field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is not None:
        return next((model for a in get_args(annotation) if (model := _nested(a)) is not None), None)
    return None


def _unsendable(value: object, where: str = "") -> Iterator[Problem]:
    """What a model accepts and JSON cannot carry: half a character, or a number that readers disagree about."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _unsendable(each, f"{where}.{name}".lstrip("."))
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from _unsendable(each, f"{where}[{i}]")
    elif isinstance(value, int) and value > _LARGEST:
        yield Problem(where, "is far too large")
    elif isinstance(value, str) and re.search(f"[\ud800-\udfff{HALF}]", value):
        yield Problem(where, "holds half a character (a lone surrogate)", "whole Unicode characters")


def _problem(details: ErrorDetails, schema: Schema) -> Problem:
    location, kind = details["loc"], details["type"]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    where = clean(where, 80) or "arguments"
    if kind == "extra_forbidden":
        known = list(_at(schema, location[:-1]).get("properties", {}))
        return Problem(where, f"unknown argument{closest(str(location[-1]), known)}", ", ".join(known))
    if kind == "missing":
        return Problem(where, "is missing", _allowed(_at(schema, location)))
    if kind == "sora":  # raised by a validator of ours: the text is ours
        return Problem(where, details["msg"])
    return Problem(where, f"{_shown(details['input'])} is not accepted", _allowed(_at(schema, location)))


def _at(schema: Schema, location: tuple[int | str, ...]) -> Schema:
    for part in location:
        schema = schema.get("items", {}) if isinstance(part, int) else schema.get("properties", {}).get(part, {})
    return schema


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "this number"
    if isinstance(value, str | int | float | bool) or value is None:
        text = json.dumps(clean(value, 60) if isinstance(value, str) else value, ensure_ascii=False)
        return clean(text, 64)
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "this value"


_ARTICLE = {"integer": "a whole number", "number": "a number", "string": "a text", "boolean": "true or false"}


def _allowed(node: Schema) -> str:
    if "enum" in node:
        return ", ".join(node["enum"])
    kind = node.get("type", "")
    words = {"array": "a list", "object": "an object"}.get(kind) or _ARTICLE.get(kind, "")
    if kind == "array" and ("minItems" in node or "maxItems" in node):
        words += f" of {node.get('minItems', 0)} to {node.get('maxItems', 'any number')}"
    if "minimum" in node and "maximum" in node:
        words += f" from {node['minimum']:g} to {node['maximum']:g}"
    elif "minimum" in node:
        words += f" of at least {node['minimum']:g}"
    description = node.get("description", "").rstrip(".")
    return f"{words} ({description})" if description and words else words
