"""The only room that talks to an upstream: its address, its key, connections, time-outs, downloads.

What is sent, and what an answer means, is up to a dialect (`sora_mcp.dialects`).
"""

from sora_mcp.gateway.calls import Gateway, Probe

__all__ = ["Gateway", "Probe"]
