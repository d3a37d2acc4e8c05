"""Results in the form that the model APIs accept: text, and pictures in base64."""

from __future__ import annotations

import base64

from sora_mcp.tools import Result


def as_text(result: Result) -> str:
    """Return the sentence followed by the structured result, which MCP clients get as two blocks."""
    return f"{result.text}\n{result.mirror}"


def as_base64(picture: bytes) -> str:
    """Encode a picture as base64 text."""
    return base64.b64encode(picture).decode("ascii")
