"""A result as the model APIs take it: a text, and a picture in base64."""

from __future__ import annotations

import base64

from sora_mcp.tools import Result


def as_text(result: Result) -> str:
    """A sentence, then the structured result: what MCP clients get as two blocks."""
    return f"{result.text}\n{result.mirror}"


def as_base64(picture: bytes) -> str:
    """A picture as text."""
    return base64.b64encode(picture).decode("ascii")
