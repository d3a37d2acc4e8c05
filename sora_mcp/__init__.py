"""sora_mcp: an MCP server through which agents make videos at a Sora-format gateway."""

__version__ = "0.1.0"
