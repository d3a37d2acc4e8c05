"""What is exported for each model API: the published tools, in its own form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from imports import modules_after
from jsonschema import Draft202012Validator

from sora_mcp import toolkit
from sora_mcp.tools import TABLE, TOOLS
from sora_mcp.tools.arguments import parse

NAMES = list(TABLE)


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and every schema within it."""
    yield schema
    for each in schema.get("properties", {}).values():
        yield from nodes(each)
    if "items" in schema:
        yield from nodes(schema["items"])


def test_every_export_lists_the_tools_of_the_table_in_its_order() -> None:
    assert [tool["name"] for tool in toolkit.openai_responses()] == NAMES
    assert [tool["function"]["name"] for tool in toolkit.openai_chat()] == NAMES
    assert [tool["name"] for tool in toolkit.anthropic()] == NAMES
    assert [tool["name"] for tool in toolkit.gemini()] == NAMES


def test_a_strict_schema_is_closed_and_requires_everything_and_says_the_rest_in_words() -> None:
    for tool in toolkit.openai_responses():
        assert tool["strict"] is True
        for node in nodes(tool["parameters"]):
            assert not {"default", "minLength", "maxLength"} & set(node)
            if node["type"] == "object":
                assert node["additionalProperties"] is False
                assert node["required"] == list(node["properties"])


def test_an_optional_argument_may_be_null_in_a_strict_schema_and_a_required_one_may_not() -> None:
    given = {tool["name"]: tool["parameters"]["properties"] for tool in toolkit.openai_responses()}
    remix = given["remix_video"]
    assert remix["prompt"]["type"] == "string"
    assert remix["amount"]["type"] == ["number", "null"]
    assert remix["style"] == {
        "type": ["string", "null"],
        "enum": ["natural", None],
        "description": "Leave out; no other value exists. Null: natural.",
    }
    assert given["create_video"]["inpaint_items"]["type"] == ["array", "null"]
    assert given["create_video"]["width"]["description"] == "Pixels; requires height. Null: 854."


def test_bounds_of_a_text_are_said_in_words_in_a_strict_schema() -> None:
    bounded = {"type": "string", "description": "A word.", "minLength": 1, "maxLength": 8}
    words = "A word. At least 1 characters. At most 8 characters."
    assert toolkit.strict(bounded) == {"type": "string", "description": words}


def test_the_chat_form_is_the_responses_form_nested() -> None:
    flat = [{"type": "function", **tool["function"]} for tool in toolkit.openai_chat()]
    assert flat == toolkit.openai_responses()


def test_anthropic_and_gemini_get_the_published_schema_as_it_is() -> None:
    published = [tool.input_schema for tool in TOOLS]
    assert [tool["input_schema"] for tool in toolkit.anthropic()] == published
    assert [tool["parametersJsonSchema"] for tool in toolkit.gemini()] == published


@pytest.mark.parametrize("tool", toolkit.anthropic(), ids=lambda tool: str(tool["name"]))
def test_every_example_is_valid_for_the_schema_and_for_the_tool(tool: dict[str, Any]) -> None:
    examples = tool["input_examples"]
    assert 1 <= len(examples) <= 2
    for example in examples:
        Draft202012Validator(tool["input_schema"]).validate(example)
        parse(TABLE[tool["name"]].arguments, example)


def test_changing_an_export_changes_no_other() -> None:
    toolkit.anthropic()[0]["input_examples"].clear()
    toolkit.gemini()[0]["parametersJsonSchema"].clear()
    assert toolkit.anthropic()[0]["input_examples"]
    assert toolkit.gemini()[0]["parametersJsonSchema"]


@pytest.mark.slow
def test_the_exports_load_neither_the_protocol_nor_an_http_client() -> None:
    loaded = modules_after("from sora_mcp import toolkit\ntoolkit.openai_chat(), toolkit.anthropic(), toolkit.gemini()")
    assert "sora_mcp.toolkit" in loaded
    assert not {"mcp", "mcp_types", "httpx", "starlette"} & loaded
