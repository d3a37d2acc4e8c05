"""Arguments as clients really send them → a validated model, or an InvalidInput in our own words.

Clients send `null`, `"null"` and `""` for an optional field, numbers as strings, and nested objects
as JSON text; all of that is accepted, but for `"null"` in a free text. An argument we do not know never is.
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
from sora_mcp.tools.foreign import Argument, as_item, fold, translated
from sora_mcp.tools.schema import Items, Schema, emit

M = TypeVar("M", bound=BaseModel)

_LARGEST = 2**53 - 1
"""The largest whole number that every JSON reader reads alike (RFC 8259 §6)."""


MOST_CHARACTERS = 8_000_000
"""Of one message, or of arguments that are written as JSON text: beyond that nothing is read."""
MOST_ITEMS = 1000
"""Of one list."""


_FREE_TEXTS = frozenset({"prompt", "query", "description"})
"""Arguments in which any word may be meant."""

HALF = "\uffff"
"""A noncharacter that stands for half a character where a reader of JSON would not let that through."""


def parse(model: type[M], arguments: object, limits: Capabilities | None = None) -> M:
    """The validated arguments. Raises InvalidInput, which names every problem and what is allowed instead.

    With `limits` it knows the sizes and lengths that can be asked for, and says values of other APIs in them.
    """
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidInput([Problem("arguments", "are not an object", "named arguments")])
    try:
        parsed = model.model_validate(_tidy(model, arguments or {}))
    except ValidationError as error:
        raise InvalidInput(_problems(error.errors(include_url=False), model, limits)) from None
    if problems := list(_unsendable(parsed.model_dump())):
        raise InvalidInput(problems)
    return parsed


def in_our_words(
    model: type[BaseModel], name: str, value: object, limits: Capabilities, written: Callable[[str], str]
) -> str | None:
    """What an argument of another API is here, in a sentence; None where its name is not one of those. `written`: how
    the name of one of ours is written."""
    argument = Argument(clean(name, 40), value, limits, partial(_accepts, model, limits), written)
    translation = translated(argument, _reachable(emit(model, describe=False)))
    if translation is None:
        return None
    return str(InvalidInput([Problem(argument.name, f"unknown; {translation.words}", translation.allowed)]))


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
        if not field.is_required() and is_blank(value, name):
            continue
        tidied[name] = _tidy_value(field.annotation, value, name)
        if not field.is_required() and _is_placeholder(tidied[name], value, name):
            del tidied[name]
    return tidied


def is_blank(value: Any, name: str) -> bool:
    """Whether a client left an argument out that way. In a free text, "null" may be meant."""
    return value is None or (
        isinstance(value, str) and value.strip() in ({""} if name in _FREE_TEXTS else {"", "null"})
    )


def blank_items(arguments: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the items of lists in which nothing is filled in: in a file, something is meant by them."""
    return [
        Problem(f"{name}[{i}]", "is blank")
        for name, value in arguments.items()
        if isinstance(items := _from_text(value, name), list)
        for i, text in enumerate(items)
        if isinstance(item := _from_text(text, name), dict) and all(is_blank(each, key) for key, each in item.items())
    ]


def _is_placeholder(tidied: Any, value: Any, name: str) -> bool:
    """Whether a list is the page's own example of no image, `[{"url": ""}]`. `[{}]` is a mistake, and refused."""
    if not isinstance(tidied, list) or not tidied or any(item != {} for item in tidied):
        return False
    return all(_from_text(item, name) != {} for item in _from_text(value, name))


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


def _problems(errors: list[ErrorDetails], model: type[BaseModel], limits: Capabilities | None) -> list[Problem]:
    """Each thing that is wrong, once: of a list's items the first that has it; what is allowed where it first matters.
    An argument is not missing where another one was meant for it."""
    schema = emit(model, describe=False)
    problems: dict[str, Problem] = {}
    also: Counter[str] = Counter()
    meant, said = set(), {""}
    for details in sorted(errors, key=lambda each: each["type"] == "missing"):
        location, kind = details["loc"], details["type"]
        where, place = _where(location), _where(location[:-1])
        if kind == "missing" and (place, location[-1]) in meant:
            continue
        if kind == "extra_forbidden":
            accepts = partial(_accepts, _model_at(model, location[:-1]), limits)
            argument = Argument(clean(str(location[-1]), 40), details["input"], limits, accepts)
            problem, target = _unknown(where, argument, _at(schema, location[:-1]))
            meant.add((place, target))
            problem = replace(problem, allowed="" if problem.allowed in said else problem.allowed)
        else:
            problem = _problem(details, schema)
        said.add(str(problem.allowed))
        alike = kind + re.sub(r"\[[0-9]+\]", "", where) if kind in _ALIKE else where
        if problems.setdefault(alike, problem) is not problem:
            also[alike] += 1
    return [
        replace(each, reason=f"{each.reason} (and in {also[alike]} more)") if also[alike] else each
        for alike, each in problems.items()
    ]


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _nested(model.model_fields[part].annotation) or model
    return model


def _accepts(model: type[BaseModel], limits: Capabilities | None, name: str, value: object) -> bool:
    """Whether a tool would take this value for its argument of this name."""
    try:
        model.model_validate(_tidy(model, {name: value}))
    except InvalidInput:
        return False
    except ValidationError as error:
        if any(each["loc"][:1] == (name,) for each in error.errors(include_url=False)):
            return False
    counts = [each for each in model.model_fields[name].metadata if isinstance(each, Items)]
    if isinstance(value, list):
        return all(each.least <= len(value) <= each.most for each in counts)
    if limits is None or name not in {"n_frames", "n_variants"}:
        return True
    try:
        number = float(str(value))
    except ValueError:  # such as "null", which stands for nothing
        return False
    return number <= limits.max_variants if name == "n_variants" else limits.any_length or number in limits.lengths


_ALIKE = frozenset({"extra_forbidden", "missing"})
"""Errors that are said of one item of a list where they are alike in several."""


def _unknown(where: str, argument: Argument, place: Schema) -> tuple[Problem, str]:
    """What is wrong with an argument that is none of ours; and which of ours it was meant for, where that is known."""
    properties: dict[str, Schema] = place.get("properties", {})
    is_ours = fold(argument.name) in map(fold, properties)
    if not is_ours and (translation := translated(argument, _reachable(place))):
        return Problem(where, f"unknown argument; {translation.words}", translation.allowed), translation.target
    wrong = f"unknown argument{closest(argument.name, list(properties))}"
    return Problem(where, wrong, ", ".join(properties)), ""


def _reachable(place: Schema) -> set[str]:
    """The arguments that stand at a place, and those of its items, such as `inpaint_items.url`."""
    properties: dict[str, Schema] = place.get("properties", {})
    items = {name: node.get("items", {}).get("properties", {}) for name, node in properties.items()}
    return {*properties, *(f"{name}.{each}" for name, fields in items.items() for each in fields)}


def _where(location: tuple[int | str, ...]) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    return clean(where, 80) or "arguments"


def _problem(details: ErrorDetails, schema: Schema) -> Problem:
    location, kind = details["loc"], details["type"]
    where = _where(location)
    if kind == "missing":
        return Problem(where, "is missing", _allowed(_at(schema, location)))
    if kind == "sora":  # raised by a validator of ours: the text is ours
        return Problem(where, details["msg"])
    node = _at(schema, location)
    return Problem(
        where, f"{_shown(details['input'])} is not accepted", _allowed(node) + _example(details["input"], node)
    )


def _example(value: object, node: Schema) -> str:
    """How an id or an address stands that was put in the place of an item or of a list of items."""
    is_list = node.get("type") == "array"
    fields = (node.get("items", {}) if is_list else node).get("properties", {})
    item = as_item(value)
    if item is None or not fields.keys() >= item.keys():
        return ""
    if is_list and node.get("minItems", 0) > 1:
        return f", each such as {json.dumps(item)}"
    return f", such as {json.dumps([item] if is_list else item)}"


def _at(schema: Schema, location: tuple[int | str, ...]) -> Schema:
    for part in location:
        schema = schema.get("items", {}) if isinstance(part, int) else schema.get("properties", {}).get(part, {})
    return schema


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "this number"
    if isinstance(value, str | int | float | bool) or value is None:
        return quoted(value, 60) if isinstance(value, str) else clean(json.dumps(value), 64)
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "this value"


_ARTICLE = {"integer": "a whole number", "number": "a number", "string": "a text", "boolean": "true or false"}


def _allowed(node: Schema) -> str:
    if "enum" in node:
        return ", ".join(node["enum"])
    kind = node.get("type", "")
    words = {"array": "a list", "object": "an object"}.get(kind) or _ARTICLE.get(kind, "")
    if kind == "array" and ("minItems" in node or "maxItems" in node):
        least, most = node.get("minItems", 0), node.get("maxItems", "any number")
        words += f" of {least}" if least == most else f" of {least} to {most}"
    if "minimum" in node and "maximum" in node:
        words += f" from {node['minimum']:g} to {node['maximum']:g}"
    elif "minimum" in node:
        words += f" of at least {node['minimum']:g}"
    description = node.get("description", "").rstrip(".")
    return f"{words} ({description})" if description and words else words
