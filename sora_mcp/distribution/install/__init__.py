"""Adding the server to a client on this machine, and removing it."""

from sora_mcp.distribution.install.installing import install, uninstall

__all__ = ["install", "uninstall"]
