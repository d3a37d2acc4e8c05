"""The tools for agents without MCP: declarations for the model APIs, and calls.

Both are derived from the table in `tools`. The declarations need neither MCP nor an HTTP client.
"""

from sora_mcp.toolkit.for_anthropic import anthropic
from sora_mcp.toolkit.for_gemini import gemini
from sora_mcp.toolkit.for_openai import openai_chat, openai_responses, strict
from sora_mcp.toolkit.session import Toolkit

__all__ = ["Toolkit", "anthropic", "gemini", "openai_chat", "openai_responses", "strict"]
