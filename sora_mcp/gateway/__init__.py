"""The only room that speaks to an upstream: its address, its key, connections, time-outs, downloads.

What is said there, and what an answer means, is a dialect's matter (`sora_mcp.dialects`).
"""

from sora_mcp.gateway.calls import Gateway, Probe

__all__ = ["Gateway", "Probe"]
