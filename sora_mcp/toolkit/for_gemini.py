"""The tools for the Gemini API."""

from __future__ import annotations

from typing import Any

from sora_mcp import tools
from sora_mcp.core.pictures import mime_type
from sora_mcp.toolkit.texts import as_base64
from sora_mcp.tools import Result


def gemini() -> list[dict[str, Any]]:
    """Return the entries of `functionDeclarations` for the Gemini API."""
    return [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.input_schema}
        for tool in tools.TOOLS
    ]


def answer(name: str, result: Result, *, call_id: str | None = None) -> dict[str, Any]:
    """Return the part that answers a function call; the parts for one turn go into one content.

    `call_id` is the call's id, if it has one.
    """
    output = {"text": result.text, **result.structured}
    response: dict[str, Any] = {"name": name, "response": {"error" if result.is_error else "output": output}}
    if call_id is not None:
        response["id"] = call_id
    if result.picture is not None:
        response["parts"] = [{"inlineData": {"mimeType": mime_type(result.picture), "data": as_base64(result.picture)}}]
    return {"functionResponse": response}
