"""Starts the server in the environment that the host made from pyproject.toml."""

from sora_mcp.cli import main

main()
