"""Reading resources at a client, and the video that most of them are about."""

from __future__ import annotations

import base64
import json
from typing import Any

import mcp_types as types
from mcp import Client


async def create(client: Client, **arguments: Any) -> str:
    made = await client.call_tool("create_video", {"prompt": "fly man", "width": 480, "height": 480} | arguments)
    return str(made.structured_content["task_id"])


async def text(client: Client, uri: str) -> Any:
    (found,) = (await client.read_resource(uri)).contents
    assert isinstance(found, types.TextResourceContents)
    assert found.uri == uri
    return json.loads(found.text) if found.mime_type == "application/json" else found.text


async def blob(client: Client, uri: str, mime_type: str) -> bytes:
    (found,) = (await client.read_resource(uri)).contents
    assert isinstance(found, types.BlobResourceContents)
    assert (found.uri, found.mime_type) == (uri, mime_type)
    return base64.b64decode(found.blob)
