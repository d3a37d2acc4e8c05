"""Reading resources with a client, and creating the video that most of them describe."""

from __future__ import annotations

import base64
import json
from typing import Any

import mcp_types as types
from mcp import Client


async def create(client: Client, **arguments: Any) -> str:
    result = await client.call_tool("create_video", {"prompt": "fly man", "width": 480, "height": 480} | arguments)
    return str(result.structured_content["task_id"])


async def text(client: Client, uri: str) -> Any:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, types.TextResourceContents)
    assert content.uri == uri
    return json.loads(content.text) if content.mime_type == "application/json" else content.text


async def blob(client: Client, uri: str, mime_type: str) -> bytes:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, types.BlobResourceContents)
    assert (content.uri, content.mime_type) == (uri, mime_type)
    return base64.b64decode(content.blob)
