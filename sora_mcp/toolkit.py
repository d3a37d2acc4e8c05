"""The tools for agents without MCP: as function declarations of the model APIs.

Everything is made from the table in `tools`; neither MCP nor an HTTP client is needed for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from sora_mcp import tools
from sora_mcp.schema import Schema

_TASK = "task_01k2zq5v9rf3x8m4c7d1w6hj0t"
_OTHER = "task_01k2zr7b4ye6n9s2g5a8p3kq1u"

EXAMPLES: Mapping[str, list[dict[str, Any]]] = {
    "create_video": [
        {"prompt": "A lighthouse on a cliff at sunset, waves below, slow aerial shot"},
        {
            "prompt": "The fox lifts its head and looks into the camera",
            "width": 480,
            "height": 854,
            "inpaint_items": [{"url": "https://example.com/fox.png", "frame_index": 0}],
        },
    ],
    "storyboard_video": [
        {
            "prompt": "A theatre made of paper",
            "n_frames": 300,
            "actions": [
                {"time": 0, "description": "the curtain opens"},
                {"time": 150, "description": "a paper bird flies towards the camera"},
            ],
        }
    ],
    "remix_video": [{"source_generation_id": _TASK, "prompt": "The same scene at night", "amount": 3}],
    "blend_videos": [{"inpaint_items": [{"generation_id": _TASK}, {"generation_id": f"{_OTHER}#2"}]}],
    "get_video": [{"task_id": _TASK, "wait_seconds": 50}],
    "list_videos": [{}, {"status": "succeeded", "limit": 5}],
    "view_video": [{"task_id": _TASK, "frames": 4}],
    "download_video": [{"task_id": _TASK}, {"task_id": _TASK, "variant": 2}],
}
"""Arguments that show a model how each tool is meant: valid, and as few as do."""


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


def anthropic() -> list[dict[str, Any]]:
    """The tools for Anthropic's Messages API, with examples."""
    return [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": tool.input_schema,
            "input_examples": deepcopy(EXAMPLES[tool.name]),
        }
        for tool in tools.TOOLS
    ]


def gemini() -> list[dict[str, Any]]:
    """The entries of `functionDeclarations` for the Gemini API."""
    return [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.input_schema}
        for tool in tools.TOOLS
    ]


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
    said = [words.format(_shown(schema[name])) for name, words in _SAID.items() if name in schema]
    if said:
        node["description"] = " ".join([schema["description"], *said])
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
