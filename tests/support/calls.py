"""Tool calls and what they tell: for the tests of bad input, of local images and of calls that are given up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp import Client

from sora_mcp.core.errors import OUTCOME_SENTENCES

Arguments = dict[str, Any]
NOTHING_SENT = OUTCOME_SENTENCES["not_submitted"]


@dataclass(frozen=True, slots=True)
class ToolReply:
    """What a tool answered: its sentence, and the structured result."""

    text: str
    data: dict[str, Any]
    is_error: bool


async def ask(client: Client, tool: str, arguments: Arguments) -> ToolReply:
    result = await client.call_tool(tool, arguments)
    words = [block.text for block in result.content if isinstance(block, types.TextContent)]
    return ToolReply(words[0], dict(json.loads(words[1])), is_error=bool(result.is_error))


async def assert_refused(client: Client, tool: str, arguments: Arguments, *words: str) -> ToolReply:
    """A call that must be refused before anything was sent, in words that name what is wrong."""
    told = await ask(client, tool, arguments)
    assert told.is_error, told.text
    assert told.data["outcome"] == "not_submitted"
    assert "request_id" not in told.data
    assert NOTHING_SENT in told.text
    assert told.data["error"]["next_step"] in told.text
    assert not [word for word in words if word not in told.text], told.text
    return told


async def assert_accepted(client: Client, tool: str, arguments: Arguments) -> ToolReply:
    told = await ask(client, tool, arguments)
    assert not told.is_error, told.text
    assert told.data["outcome"] == "accepted"
    return told


def create(**arguments: Any) -> tuple[str, Arguments]:
    return "create_video", {"prompt": "fly man"} | arguments


def item(**fields: Any) -> tuple[str, Arguments]:
    return create(inpaint_items=[fields])
