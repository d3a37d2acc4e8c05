"""The tools: the table of them, and calling one. The agent's words for results and errors are here, too."""

from sora_mcp.tools.agent_wording import ForAgents
from sora_mcp.tools.caller import Caller, Patience, Progress
from sora_mcp.tools.calls import call
from sora_mcp.tools.failures import Result, failed
from sora_mcp.tools.table import INSTRUCTIONS, TABLE, TOOLS, listing
from sora_mcp.tools.tool import Tool

__all__ = [
    "INSTRUCTIONS",
    "TABLE",
    "TOOLS",
    "Caller",
    "ForAgents",
    "Patience",
    "Progress",
    "Result",
    "Tool",
    "call",
    "failed",
    "listing",
]
