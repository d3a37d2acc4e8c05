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
    """Return the tools for OpenAI's Responses API, in strict mode."""
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
    """Return the tools for OpenAI's Chat Completions API, in strict mode: the same, nested under `function`."""
    return [
        {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
        for tool in openai_responses()
    ]


def answer(call_id: str, result: Result) -> dict[str, Any]:
    """Return the Responses API input item that answers a call."""
    output: list[dict[str, Any]] = [{"type": "input_text", "text": as_text(result)}]
    if result.picture is not None:
        address = f"data:{mime_type(result.picture)};base64,{as_base64(result.picture)}"
        output.append({"type": "input_image", "image_url": address})
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def chat_answer(call_id: str, result: Result) -> dict[str, Any]:
    """Return the Chat Completions API message that answers a call; it cannot contain a picture."""
    return {"role": "tool", "tool_call_id": call_id, "content": as_text(result)}


_UNSUPPORTED_KEYWORDS: Mapping[str, str] = {
    "default": "Null: {}.",
    "minLength": "At least {} characters.",
    "maxLength": "At most {} characters.",
}
"""Keywords that OpenAI's strict mode refuses, and the sentence that replaces each in the description."""


def strict(schema: Schema) -> Schema:
    """Convert a published schema to OpenAI's strict mode.

    Every object is closed and requires all of its properties; optional ones may be null instead. Keywords that the
    mode lacks become sentences in the description.
    """
    node = {name: value for name, value in schema.items() if name not in _UNSUPPORTED_KEYWORDS}
    sentences = [
        template.format(_format_value(schema[name]))
        for name, template in _UNSUPPORTED_KEYWORDS.items()
        if name in schema
    ]
    if sentences:
        node["description"] = " ".join([schema["description"], *sentences])
    if "items" in schema:
        node["items"] = strict(schema["items"])
    if schema["type"] == "object":
        required = schema["required"]
        node["properties"] = {
            name: strict(each) if name in required else _nullable(strict(each))
            for name, each in schema["properties"].items()
        }
        node |= {"required": list(schema["properties"]), "additionalProperties": False}
    return node


def _nullable(node: Schema) -> Schema:
    nullable = node | {"type": [node["type"], "null"]}
    if "enum" in node:
        nullable["enum"] = [*node["enum"], None]
    return nullable


def _format_value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
