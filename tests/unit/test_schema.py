"""The published schemas: only what every host takes, valid for the protocol, and small."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import bpe_openai
import jsonschema
import mcp_types
import pytest
from pydantic import AfterValidator, BaseModel, Field

from sora_mcp import tools
from sora_mcp.core import results
from sora_mcp.tools.schema import MAX_DEPTH, NotPortable, emit

OFFICIAL = Path(__file__).parents[3] / "shared" / "schemas"

COMMON = {"type", "description", "default", "enum"}
KEYWORDS = {
    "object": COMMON | {"properties", "required"},
    "array": COMMON | {"items", "minItems", "maxItems"},
    "string": COMMON | {"minLength", "maxLength", "pattern"},
    "integer": COMMON | {"minimum", "maximum"},
    "number": COMMON | {"minimum", "maximum"},
    "boolean": COMMON,
}

inputs = [pytest.param(tool.input_schema, id=tool.name) for tool in tools.TOOLS]
outputs = [pytest.param(tool.output_schema, id=tool.name) for tool in tools.TOOLS if tool.output_schema]
each_tool = pytest.mark.parametrize("tool", tools.TOOLS, ids=lambda tool: str(tool.name))


def nodes(schema: Any, depth: int = 1) -> Iterator[tuple[dict[str, Any], int]]:
    """Every node of a schema, and how many objects stand around it (itself included)."""
    yield schema, depth
    for child in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        yield from nodes(child, depth + (child["type"] == "object"))


def assert_portable(schema: dict[str, Any]) -> None:
    assert schema["type"] == "object"
    for node, depth in nodes(schema):
        assert set(node) <= KEYWORDS[node["type"]], node
        assert depth <= 3, node
        if node["type"] == "object":
            assert set(node["required"]) <= set(node["properties"]), node
        if node["type"] == "array":
            assert node["items"], node
        if "enum" in node:
            assert node["type"] == "string", node
            assert node["enum"], node
            assert all(isinstance(value, str) for value in node["enum"]), node
        if "default" in node:
            assert node["default"] is not None, node


# --- what the table publishes ---------------------------------------------------------------------


@pytest.mark.parametrize("schema", inputs + outputs)
def test_every_schema_keeps_to_the_portable_subset(schema: dict[str, Any]) -> None:
    assert_portable(schema)


@pytest.mark.parametrize("schema", inputs + outputs)
def test_every_schema_is_a_json_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("schema", inputs + outputs)
def test_every_schema_survives_json(schema: dict[str, Any]) -> None:
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


@pytest.mark.parametrize("schema", inputs)
def test_every_argument_is_described(schema: dict[str, Any]) -> None:
    for node, _ in nodes(schema):
        for name, field in node.get("properties", {}).items():
            assert field.get("description", "").strip(), name


@pytest.mark.parametrize("schema", inputs)
def test_a_default_is_a_value_of_its_own_field_and_makes_it_optional(schema: dict[str, Any]) -> None:
    for node, _ in nodes(schema):
        for name, field in node.get("properties", {}).items():
            if "default" in field:
                jsonschema.validate(field["default"], field)
                assert name not in node["required"], name


@each_tool
def test_every_tool_has_a_name_that_all_hosts_take(tool: tools.Tool[Any, Any]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,40}", tool.name)
    assert len(f"sora:{tool.name}") <= 60


@each_tool
def test_every_tool_says_what_it_does_in_few_words(tool: tools.Tool[Any, Any]) -> None:
    assert tool.title.strip()
    assert 0 < len(tool.description) <= 1000


@each_tool
def test_every_tool_sets_all_four_hints(tool: tools.Tool[Any, Any]) -> None:
    assert set(tool.annotations) == {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
    assert all(type(hint) is bool for hint in tool.annotations.values())


@each_tool
def test_a_paid_call_is_never_shown_as_read_only_or_safe_to_repeat(tool: tools.Tool[Any, Any]) -> None:
    if tool.paid:
        assert tool.annotations["readOnlyHint"] is False
        assert tool.annotations["idempotentHint"] is False
        assert "Costs money" in tool.description


def test_the_documented_operations_are_the_paid_tools() -> None:
    paid = [tool.name for tool in tools.TOOLS if tool.paid]
    assert paid == ["create_video", "storyboard_video", "remix_video", "blend_videos"]


def test_only_a_tool_that_gives_a_picture_publishes_no_result() -> None:
    assert [tool["name"] for tool in tools.listing() if "outputSchema" not in tool] == ["view_video"]


def test_names_are_unique() -> None:
    assert len({tool.name for tool in tools.TOOLS}) == len(tools.TOOLS)


# --- the protocol's own schemas -------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_the_list_of_tools_is_valid_for_the_protocol(version: str) -> None:
    path = OFFICIAL / f"mcp-{version}.schema.json"
    if not path.exists():
        pytest.skip(f"the official schema of MCP {version} is a third-party file that is not part of the project")
    official = json.loads(path.read_text(encoding="utf-8"))
    listed = mcp_types.ListToolsResult.model_validate({"tools": tools.listing()})
    sent = listed.model_dump(mode="json", by_alias=True, exclude_none=True)
    jsonschema.Draft202012Validator({"$ref": "#/$defs/ListToolsResult", "$defs": official["$defs"]}).validate(sent)
    assert sent["tools"] == tools.listing()


# --- size -----------------------------------------------------------------------------------------


def tokens(value: object) -> int:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(bpe_openai.get_encoding("o200k_base").encode(text))


def test_names_descriptions_and_arguments_fit_in_2900_tokens() -> None:
    size = tokens([{k: tool[k] for k in ("name", "description", "inputSchema")} for tool in tools.listing()])
    print(f"names, descriptions and arguments: {size} of 2900 tokens")  # noqa: T201
    assert size <= 2900


def test_the_whole_list_with_the_instructions_fits_in_5600_tokens() -> None:
    size = tokens(tools.listing()) + tokens(tools.INSTRUCTIONS)
    print(f"the whole list with the instructions: {size} of 5600 tokens")  # noqa: T201
    assert size <= 5600


# --- what emit refuses ----------------------------------------------------------------------------


class Inner(BaseModel):
    text: Annotated[str, Field(description="x")]


class Deep(BaseModel):
    inner: Annotated[Inner, Field(description="x")]


class Deeper(BaseModel):
    deep: Annotated[list[Deep], Field(description="x")]


class TooDeep(BaseModel):
    deeper: Annotated[Deeper, Field(description="x")]


class Colour(Enum):
    RED = "red"


def model(annotation: Any, **field: Any) -> type[BaseModel]:
    """A model of one described field."""
    namespace = {"__annotations__": {"value": annotation}, "__module__": __name__}
    if field.get("described", True):
        field = {"description": "A value."} | field
    field.pop("described", None)
    return type("One", (BaseModel,), namespace | {"value": Field(**field)})


@pytest.mark.parametrize(
    "annotation",
    [
        int | str,
        int | str | None,
        list[int | str],
        list[str | None],
        Literal[1, 2],
        Literal["a", 1],
        Literal[True],
        Colour,
        Any,
        object,
        None,
        bytes,
        list,
        set[str],
        tuple[int, int],
        dict[str, int] | list[int],
        Annotated[int, Field(multiple_of=2)],
        Annotated[int, Field(gt=0)],
        Annotated[int | None, Field(lt=5)],
        Annotated[int, Field(gt=0)] | None,
    ],
    ids=str,
)
def test_a_type_that_some_host_refuses_is_not_portable(annotation: Any) -> None:
    with pytest.raises(NotPortable, match=r"One\.value"):
        emit(model(annotation))


@pytest.mark.parametrize("constraint", [{"gt": 0}, {"lt": 9}, {"multiple_of": 3}], ids=str)
def test_a_constraint_that_some_host_refuses_is_not_portable(constraint: dict[str, int]) -> None:
    with pytest.raises(NotPortable, match=r"One\.value"):
        emit(model(int, **constraint))


def test_a_default_that_is_made_later_is_not_portable() -> None:
    with pytest.raises(NotPortable, match=r"One\.value"):
        emit(model(str, default_factory=str))


def test_an_argument_without_a_description_is_not_portable() -> None:
    undescribed = model(str, described=False)
    with pytest.raises(NotPortable, match="no description"):
        emit(undescribed)
    assert emit(undescribed, describe=False)["properties"] == {"value": {"type": "string"}}


def test_three_objects_may_nest_and_four_may_not() -> None:
    assert MAX_DEPTH == 3
    assert_portable(emit(Deeper))
    with pytest.raises(NotPortable, match="deeper than 3"):
        emit(TooDeep)


# --- what emit makes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "field", "node"),
    [
        (str, {}, {"type": "string"}),
        (bool, {"default": False}, {"type": "boolean", "default": False}),
        (str | None, {"default": None}, {"type": "string"}),
        (list[str], {"default": []}, {"type": "array", "items": {"type": "string"}}),
        (list[str], {"max_length": 2}, {"type": "array", "items": {"type": "string"}, "maxItems": 2}),
        (str, {"min_length": 1}, {"type": "string", "minLength": 1}),
        (float, {"ge": 1, "le": 8}, {"type": "number", "minimum": 1, "maximum": 8}),
        (Annotated[int, Field(ge=1)] | None, {"default": None}, {"type": "integer", "minimum": 1}),
        (Literal["a", "b"], {}, {"type": "string", "enum": ["a", "b"]}),
        (Annotated[int, AfterValidator(abs)], {}, {"type": "integer"}),
    ],
    ids=str,
)
def test_a_portable_field_is_said_in_the_subset(annotation: Any, field: dict[str, Any], node: dict[str, Any]) -> None:
    made = model(annotation, **field)
    assert emit(made)["properties"]["value"] == node | {"description": "A value."}
    assert emit(made)["required"] == ([] if "default" in field else ["value"])
    assert_portable(emit(made))


def test_an_object_without_fields_still_has_properties_and_required() -> None:
    assert emit(type("Nothing", (BaseModel,), {})) == {"type": "object", "properties": {}, "required": []}


def test_a_field_that_is_kept_back_is_neither_published_nor_required() -> None:
    emitted = emit(results.Stills, describe=False)
    assert "picture" not in emitted["properties"]
    assert_portable(emitted)


@pytest.mark.parametrize(
    "node",
    [
        {"anyOf": [{"type": "string"}]},
        {"type": ["string", "null"]},
        {"type": "string", "default": None},
        {"type": "string", "title": "T"},
        {"type": "integer", "enum": [1]},
        {"type": "integer", "exclusiveMinimum": 0},
        {"type": "array"},
    ],
    ids=str,
)
def test_this_files_own_walker_sees_what_it_should(node: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, KeyError, TypeError)):
        assert_portable({"type": "object", "properties": {"value": node}, "required": []})
