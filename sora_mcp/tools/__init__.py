"""The tools: their table, calling one, and the wording of results and errors for agents."""

from sora_mcp.tools.agent_wording import ForAgents
from sora_mcp.tools.caller import Caller, HostTimeout, Progress
from sora_mcp.tools.calls import call
from sora_mcp.tools.failures import Result, error_result
from sora_mcp.tools.table import INSTRUCTIONS, TABLE, TOOLS, listing
from sora_mcp.tools.tool import Tool

__all__ = [
    "INSTRUCTIONS",
    "TABLE",
    "TOOLS",
    "Caller",
    "ForAgents",
    "HostTimeout",
    "Progress",
    "Result",
    "Tool",
    "call",
    "error_result",
    "listing",
]
