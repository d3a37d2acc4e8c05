"""Signed links to this server: with one, a person on another machine fetches a video or sends an image."""

from sora_mcp.server.links.links import Links

__all__ = ["Links"]
