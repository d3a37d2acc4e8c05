"""What can be done with videos, without MCP: submit, wait, list, view, download."""

from sora_mcp.studio.creating import Confirm
from sora_mcp.studio.facade import KeyLookup, Studio

__all__ = ["Confirm", "KeyLookup", "Studio"]
