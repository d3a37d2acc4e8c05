"""Signed links of ours: a person far away fetches a video by one, and sends an image by one."""

from sora_mcp.server.links.links import Links

__all__ = ["Links"]
