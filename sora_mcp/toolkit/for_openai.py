"""The tools for OpenAI's APIs, in strict mode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sora_mcp import tools
from sora_mcp.core.pictures import mime_type
from sora_mcp.toolkit.texts import as_base64, as_text
from sora_mcp.tools import Result
from sora_mcp.tools.schema import Schema


def openai_responses() -> list[dict[str, Any]]:
    """The tools for OpenAI's Responses API, strict."""
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": strict(tool.input_schema),
            "strict": True,
        }
        for tool in tools.TOOLS
    ]


def openai_chat() -> list[dict[str, Any]]:
    """The tools for OpenAI's Chat Completions API, strict: the same, nested under `function`."""
    return [
        {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
        for tool in openai_responses()
    ]


def answer(call_id: str, result: Result) -> dict[str, Any]:
    """The Responses API's input item that answers a call."""
    output: list[dict[str, Any]] = [{"type": "input_text", "text": as_text(result)}]
    if result.picture is not None:
        address = f"data:{mime_type(result.picture)};base64,{as_base64(result.picture)}"
        output.append({"type": "input_image", "image_url": address})
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def chat_answer(call_id: str, result: Result) -> dict[str, Any]:
    """The Chat Completions API's message that answers a call; it cannot hold a picture."""
    return {"role": "tool", "tool_call_id": call_id, "content": as_text(result)}


_SAID: Mapping[str, str] = {
    "default": "Null: {}.",
    "minLength": "At least {} characters.",
    "maxLength": "At most {} characters.",
}
"""What OpenAI's strict mode refuses as a keyword, and how it is said in the description instead."""


def strict(schema: Schema) -> Schema:
    """A published schema as OpenAI's strict mode wants it.

    Every object is closed and requires all of its properties; what was optional may be null instead, and what the
    mode has no keyword for is said in the description.
    """
    node = {name: value for name, value in schema.items() if name not in _SAID}
    sentences = [words.format(_shown(schema[name])) for name, words in _SAID.items() if name in schema]
    if sentences:
        node["description"] = " ".join([schema["description"], *sentences])
    if "items" in schema:
        node["items"] = strict(schema["items"])
    if schema["type"] == "object":
        needed = schema["required"]
        node["properties"] = {
            name: strict(each) if name in needed else _or_null(strict(each))
            for name, each in schema["properties"].items()
        }
        node |= {"required": list(schema["properties"]), "additionalProperties": False}
    return node


def _or_null(node: Schema) -> Schema:
    nullable = node | {"type": [node["type"], "null"]}
    if "enum" in node:
        nullable["enum"] = [*node["enum"], None]
    return nullable


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
