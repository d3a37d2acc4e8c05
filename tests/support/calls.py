"""Tool calls and their results."""

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
    """The result of a tool call: its sentence, and the structured content."""

    text: str
    data: dict[str, Any]
    is_error: bool


async def ask(client: Client, tool: str, arguments: Arguments) -> ToolReply:
    result = await client.call_tool(tool, arguments)
    texts = [block.text for block in result.content if isinstance(block, types.TextContent)]
    return ToolReply(texts[0], dict(json.loads(texts[1])), is_error=bool(result.is_error))


async def assert_refused(client: Client, tool: str, arguments: Arguments, *texts: str) -> ToolReply:
    """Call a tool; it must be refused before anything was sent, with a message that contains `words`."""
    reply = await ask(client, tool, arguments)
    assert reply.is_error, reply.text
    assert reply.data["outcome"] == "not_submitted"
    assert "request_id" not in reply.data
    assert NOTHING_SENT in reply.text
    assert reply.data["error"]["next_step"] in reply.text
    assert not [word for word in texts if word not in reply.text], reply.text
    return reply


async def assert_accepted(client: Client, tool: str, arguments: Arguments) -> ToolReply:
    reply = await ask(client, tool, arguments)
    assert not reply.is_error, reply.text
    assert reply.data["outcome"] == "accepted"
    return reply


def create(**arguments: Any) -> tuple[str, Arguments]:
    return "create_video", {"prompt": "fly man"} | arguments


def item(**fields: Any) -> tuple[str, Arguments]:
    return create(inpaint_items=[fields])
