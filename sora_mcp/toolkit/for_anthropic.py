"""The tools for Anthropic's Messages API."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from sora_mcp import tools
from sora_mcp.core.pictures import mime_type
from sora_mcp.toolkit.texts import as_base64, as_text
from sora_mcp.tools import Result


def anthropic() -> list[dict[str, Any]]:
    """Return the tools for Anthropic's Messages API, with examples."""
    return [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": tool.input_schema,
            "input_examples": deepcopy(list(tool.examples)),
        }
        for tool in tools.TOOLS
    ]


def answer(tool_use_id: str, result: Result) -> dict[str, Any]:
    """Return the content block that answers a tool use; the blocks for one message go into one user message."""
    content: list[dict[str, Any]] = [{"type": "text", "text": as_text(result)}]
    if result.picture is not None:
        source = {"type": "base64", "media_type": mime_type(result.picture), "data": as_base64(result.picture)}
        content.append({"type": "image", "source": source})
    return {"type": "tool_result", "tool_use_id": tool_use_id, "content": content, "is_error": result.is_error}
