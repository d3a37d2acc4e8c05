"""What can be done with videos, without MCP: submit, look, wait, list, view, download."""

from sora_mcp.studio.creating import Confirm
from sora_mcp.studio.facade import Studio
from sora_mcp.studio.shared import KeyOf

__all__ = ["Confirm", "KeyOf", "Studio"]
