"""Arguments as clients really send them → a validated model, or an InvalidInput worded by us.

Clients send `null`, `"null"` and `""` for an optional field, numbers as strings, and nested objects
as JSON text. All of that is accepted, except `"null"` in a free text. An unknown argument never is.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar, get_args, get_origin

from msgspec.structs import replace
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.tasks import clean, quoted
from sora_mcp.tools.argument_aliases import Argument, as_item, fold, translate
from sora_mcp.tools.schema import ItemCount, Schema, emit

M = TypeVar("M", bound=BaseModel)

_MAX_INTEGER = 2**53 - 1
"""The largest whole number that every JSON reader reads alike (RFC 8259 §6)."""


MAX_CHARACTERS = 8_000_000
"""Characters of one message, or of arguments written as JSON text; longer ones are not read."""
MAX_ITEMS = 1000
"""Items of one list."""


_FREE_TEXTS = frozenset({"prompt", "query", "description"})
"""Arguments in which any word may be meant literally."""

SURROGATE_MARK = "\uffff"
"""A noncharacter that replaces a lone surrogate if a JSON parser would reject it."""


def parse(
    model: type[M],
    arguments: object,
    limits: Capabilities | None = None,
    format_tool: Callable[[str, str], str] | None = None,
) -> M:
    """Return the validated arguments. Raises InvalidInput, which names every problem and what is allowed instead.

    With `limits`, which hold the allowed sizes and lengths, values of other APIs are translated into those.
    `format_tool`: see `Argument`.
    """
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidInput([Problem("arguments", "are not an object", "named arguments")])
    try:
        parsed = model.model_validate(_tidy(model, arguments or {}))
    except ValidationError as error:
        raise InvalidInput(_problems(error.errors(include_url=False), model, limits, format_tool)) from None
    if problems := list(_unsendable(parsed.model_dump(), model)):
        raise InvalidInput(problems)
    return parsed


def translate_argument(model: type[BaseModel], argument: Argument) -> str | None:
    """Return a sentence that says what an argument of another API is here, or None if its name is not a known alias."""
    accepts = partial(_accepts, model, argument.limits)
    argument = replace(argument, name=clean(argument.name, 40), accepts=accepts)
    translation = translate(argument, _reachable(emit(model, describe=False)))
    if translation is None:
        return None
    return str(InvalidInput([Problem(argument.name, f"unknown; {translation.text}", translation.allowed)]))


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ` (did you mean …?)` if one of `known` resembles `word`, else an empty string."""
    matches = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f" (did you mean {matches[0]}?)" if matches else ""


def _tidy(model: type[BaseModel], arguments: dict[str, Any]) -> dict[str, Any]:
    tidied = {}
    for name, value in arguments.items():
        field = model.model_fields.get(name)
        if field is None:
            tidied[name] = value
            continue
        if not field.is_required() and is_blank(value, name):
            continue
        tidied[name] = _tidy_value(field.annotation, value, name)
        if not field.is_required() and _is_placeholder(tidied[name], value, name):
            del tidied[name]
    return tidied


def is_blank(value: Any, name: str) -> bool:
    """Whether a client omitted an argument by sending this value. In a free text, "null" may be meant literally."""
    return value is None or (
        isinstance(value, str) and value.strip() in ({""} if name in _FREE_TEXTS else {"", "null"})
    )


def blank_items(arguments: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each list item in which nothing is filled in: in a file, it is there for a reason."""
    return [
        Problem(f"{name}[{i}]", "is blank")
        for name, value in arguments.items()
        if isinstance(items := _from_text(value, name), list)
        for i, text in enumerate(items)
        if isinstance(item := _from_text(text, name), dict) and all(is_blank(each, key) for key, each in item.items())
    ]


def _is_placeholder(tidied: Any, value: Any, name: str) -> bool:
    """Whether a list is the documented example of no image, `[{"url": ""}]`. `[{}]` is a mistake, and refused."""
    if not isinstance(tidied, list) or not tidied or any(item != {} for item in tidied):
        return False
    return all(_from_text(item, name) != {} for item in _from_text(value, name))


def _tidy_value(annotation: Any, value: Any, name: str) -> Any:
    model = _nested(annotation)
    if model is None:
        # pydantic accepts true as 1; as text it is refused like any other text that is not a number
        is_stray_boolean = isinstance(value, bool) and not {bool, str}.intersection(_plain_types(annotation))
        return json.dumps(value) if is_stray_boolean else value
    value = _from_text(value, name)
    if not isinstance(value, list):
        return _tidy_item(model, value, name)
    if len(value) > MAX_ITEMS:
        raise InvalidInput([Problem(name, f"has {len(value)} items", f"at most {MAX_ITEMS}")])
    return [_tidy_item(model, each, name) for each in value]


def _tidy_item(model: type[BaseModel], value: Any, name: str) -> Any:
    value = _from_text(value, name)
    return _tidy(model, value) if isinstance(value, dict) else value


def _from_text(value: Any, name: str) -> Any:
    if not isinstance(value, str) or value.lstrip()[:1] not in {"[", "{"}:
        return value
    if len(value) > MAX_CHARACTERS:
        raise InvalidInput([Problem(name, f"is {len(value)} characters long", f"at most {MAX_CHARACTERS}")])
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _nested(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a field, or of the items of its list; None for a plain field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is not None:
        return next((model for a in get_args(annotation) if (model := _nested(a)) is not None), None)
    return None


def _plain_types(annotation: Any) -> Iterator[Any]:
    """Yield the types that a plain field accepts."""
    yield annotation
    for each in get_args(annotation):
        yield from _plain_types(each)


def _unsendable(value: object, model: type[BaseModel], location: tuple[int | str, ...] = ()) -> Iterator[Problem]:
    """Yield what a model accepts but JSON cannot carry: a lone surrogate, or a number that parsers disagree about."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _unsendable(each, model, (*location, name))
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from _unsendable(each, model, (*location, i))
    elif isinstance(value, int) and value > _MAX_INTEGER:
        allowed = _allowed(_node_at(emit(model, describe=False), location))
        yield Problem(_path(location), "is far too large", allowed)
    elif isinstance(value, str) and re.search(f"[\ud800-\udfff{SURROGATE_MARK}]", value):
        yield Problem(_path(location), "holds half a character (a lone surrogate)", "whole Unicode characters")


def _problems(
    errors: list[ErrorDetails],
    model: type[BaseModel],
    limits: Capabilities | None,
    format_tool: Callable[[str, str], str] | None,
) -> list[Problem]:
    """Return each problem once: for list items, at the first that has it; the allowed values at their first mention.
    An argument is not missing if another one was meant for it."""
    schema = emit(model, describe=False)
    problems: dict[str, Problem] = {}
    repeats: Counter[str] = Counter()
    meant, mentioned = set(), {""}
    for details in sorted(errors, key=lambda each: each["type"] == "missing"):
        location, error_type = details["loc"], details["type"]
        path, place = _path(location), _path(location[:-1])
        if error_type == "missing" and (place, location[-1]) in meant:
            continue
        if error_type == "extra_forbidden":
            accepts = partial(_accepts, _model_at(model, location[:-1]), limits)
            argument = Argument(clean(str(location[-1]), 40), details["input"], limits, accepts)
            if format_tool is not None:
                argument = replace(argument, format_tool=format_tool)
            problem, target = _unknown(path, argument, _node_at(schema, location[:-1]))
            meant.add((place, target))
            problem = replace(problem, allowed="" if problem.allowed in mentioned else problem.allowed)
        else:
            problem = _problem(details, schema)
        mentioned.add(str(problem.allowed))
        group = error_type + re.sub(r"\[[0-9]+\]", "", path) if error_type in _GROUPED_ERRORS else path
        if problems.setdefault(group, problem) is not problem:
            repeats[group] += 1
    return [
        replace(each, reason=f"{each.reason} (and in {repeats[group]} more)") if repeats[group] else each
        for group, each in problems.items()
    ]


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _nested(model.model_fields[part].annotation) or model
    return model


def _accepts(model: type[BaseModel], limits: Capabilities | None, name: str, value: object) -> bool:
    """Whether a tool would accept this value for its argument of this name."""
    try:
        model.model_validate(_tidy(model, {name: value}))
    except InvalidInput:
        return False
    except ValidationError as error:
        if any(each["loc"][:1] == (name,) for each in error.errors(include_url=False)):
            return False
    counts = [each for each in model.model_fields[name].metadata if isinstance(each, ItemCount)]
    if isinstance(value, list):
        return all(each.min_items <= len(value) <= each.max_items for each in counts)
    if limits is None or name not in {"n_frames", "n_variants"}:
        return True
    try:
        number = float(str(value))
    except ValueError:  # such as "null", which means that the argument is absent
        return False
    return number <= limits.max_variants if name == "n_variants" else limits.any_length or number in limits.lengths


_GROUPED_ERRORS = frozenset({"extra_forbidden", "missing"})
"""Errors that are reported for one item of a list if several items have the same one."""


def _unknown(path: str, argument: Argument, place: Schema) -> tuple[Problem, str]:
    """Return the problem with an unknown argument, and which of ours it was meant for, or "" if that is not known."""
    properties: dict[str, Schema] = place.get("properties", {})
    is_own = fold(argument.name) in map(fold, properties)
    if not is_own and (translation := translate(argument, _reachable(place))):
        return Problem(path, f"unknown argument; {translation.text}", translation.allowed), translation.target
    reason = f"unknown argument{did_you_mean(argument.name, list(properties))}"
    return Problem(path, reason, ", ".join(properties)), ""


def _reachable(place: Schema) -> set[str]:
    """Return the arguments allowed at a place, and those of its items, such as `inpaint_items.url`."""
    properties: dict[str, Schema] = place.get("properties", {})
    items = {name: node.get("items", {}).get("properties", {}) for name, node in properties.items()}
    return {*properties, *(f"{name}.{each}" for name, fields in items.items() for each in fields)}


def _path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    return clean(path, 80) or "arguments"


def _problem(details: ErrorDetails, schema: Schema) -> Problem:
    location, error_type = details["loc"], details["type"]
    path = _path(location)
    if error_type == "missing":
        return Problem(path, "is missing", _allowed(_node_at(schema, location)))
    if error_type == "sora":  # raised by one of our validators: the text is ours
        return Problem(path, details["msg"])
    node = _node_at(schema, location)
    return Problem(
        path, f"{_format_value(details['input'])} is not accepted", _allowed(node) + _example(details["input"], node)
    )


def _example(value: object, node: Schema) -> str:
    """Show how to write an id or an address that was sent in place of an item or of a list of items."""
    is_list = node.get("type") == "array"
    fields = (node.get("items", {}) if is_list else node).get("properties", {})
    item = as_item(value)
    if item is None or not fields.keys() >= item.keys():
        return ""
    if is_list and node.get("minItems", 0) > 1:
        return f", each such as {json.dumps(item)}"
    return f", such as {json.dumps([item] if is_list else item)}"


def _node_at(schema: Schema, location: tuple[int | str, ...]) -> Schema:
    for part in location:
        schema = schema.get("items", {}) if isinstance(part, int) else schema.get("properties", {}).get(part, {})
    return schema


def _format_value(value: object) -> str:
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        return "this number"
    if isinstance(value, str | int | float | bool) or value is None:
        return quoted(value, 60) if isinstance(value, str) else clean(json.dumps(value), 64)
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "this value"


_ARTICLE = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}


def _allowed(node: Schema) -> str:
    if "enum" in node:
        return ", ".join(node["enum"])
    json_type = node.get("type", "")
    text = {"array": "a list", "object": "an object"}.get(json_type) or _ARTICLE.get(json_type, "")
    if json_type == "array" and ("minItems" in node or "maxItems" in node):
        min_items, max_items = node.get("minItems", 0), node.get("maxItems", "any number")
        text += f" of {min_items}" if min_items == max_items else f" of {min_items} to {max_items}"
    if "minimum" in node and "maximum" in node:
        text += f" from {node['minimum']:g} to {node['maximum']:g}"
    elif "minimum" in node:
        text += f" of at least {node['minimum']:g}"
    description = node.get("description", "").rstrip(".")
    return f"{text} ({description})" if description and text else text
