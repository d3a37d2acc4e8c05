"""pydantic model → portable JSON Schema.

MCP hosts and model APIs each refuse some of JSON Schema, so the published schemas use only what all
of them accept: one `type` per node, no references, no composition, string enums, at most three levels of
nesting. A model that cannot be expressed in that subset raises `NotPortable` instead of being approximated.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from msgspec import Struct
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sora_mcp.core.models import Unlisted

Schema = dict[str, Any]

MAX_DEPTH = 3
_SCALARS: Mapping[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


class ItemCount(Struct, frozen=True):
    """How many items a list must have: published like any bound, and checked by the tool with its own message."""

    min_items: int
    max_items: int


class NotPortable(TypeError):
    """The model uses something outside the portable subset."""


def emit(model: type[BaseModel], *, describe: bool = True, _depth: int = 1) -> Schema:
    """Return the schema of `model`. With `describe` (arguments), every field must have a description, and defaults are
    included.

    Raises NotPortable on a type, constraint or nesting outside the subset.
    """
    if _depth > MAX_DEPTH:
        raise NotPortable(f"{model.__name__} nests deeper than {MAX_DEPTH}")
    fields = {
        name: field
        for name, field in model.model_fields.items()
        if not field.exclude and Unlisted() not in field.metadata
    }
    properties = {name: _field(field, f"{model.__name__}.{name}", describe, _depth) for name, field in fields.items()}
    required = [name for name, field in fields.items() if field.is_required()]
    return {"type": "object", "properties": properties, "required": required}


def _field(field: FieldInfo, path: str, describe: bool, depth: int) -> Schema:
    node, inherited = _node(field.annotation, path, describe, depth)
    for constraint in field.metadata:
        _constrain(node, constraint, path)
    description = field.description or inherited
    if description:
        node["description"] = description
    elif describe:
        raise NotPortable(f"{path} has no description")
    if describe and field.default_factory is not None:
        raise NotPortable(f"{path} has a default that is made later")
    if describe and not field.is_required() and field.default is not None and field.default != []:
        node["default"] = field.default
    return node


def _node(annotation: Any, path: str, describe: bool, depth: int) -> tuple[Schema, str | None]:
    """Return a node, and the description of an Annotated inside an optional type."""
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        inner = [a for a in get_args(annotation) if a is not type(None)]
        if len(inner) != 1:
            raise NotPortable(f"{path} is a union of {len(inner)} types")
        return _node(inner[0], path, describe, depth)
    if origin is Annotated:
        field = FieldInfo.from_annotation(annotation)
        node, inherited = _node(field.annotation, path, describe, depth)
        for constraint in field.metadata:
            _constrain(node, constraint, path)
        return node, field.description or inherited
    if origin is Literal:
        if not all(isinstance(value, str) for value in get_args(annotation)):
            raise NotPortable(f"{path} has an enum of something else than strings")
        return {"type": "string", "enum": list(get_args(annotation))}, None
    if origin is list:
        item = get_args(annotation)[0]
        if type(None) in get_args(item):
            raise NotPortable(f"{path} is a list that may hold null")
        items, description = _node(item, path, describe, depth)
        if description:
            items["description"] = description
        return {"type": "array", "items": items}, None
    if annotation in _SCALARS:
        return {"type": _SCALARS[annotation]}, None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return emit(annotation, describe=describe, _depth=depth + 1), None
    if origin is dict:
        return {"type": "object", "properties": {}, "required": []}, None
    raise NotPortable(f"{path} has a type outside the portable subset: {annotation!r}")


def _constrain(node: Schema, constraint: object, path: str) -> None:
    array = node["type"] == "array"
    match constraint:
        case Ge(ge=bound):
            node["minimum"] = bound
        case Le(le=bound):
            node["maximum"] = bound
        case MinLen(min_length=bound):
            node["minItems" if array else "minLength"] = bound
        case MaxLen(max_length=bound):
            node["maxItems" if array else "maxLength"] = bound
        case ItemCount(min_items, max_items):
            node |= {"minItems": min_items, "maxItems": max_items}
        case _ if callable(getattr(constraint, "func", None)):
            return  # a validator narrows or converts at run time and does not change the published type
        case _:
            raise NotPortable(f"{path} has a constraint outside the portable subset: {constraint!r}")
