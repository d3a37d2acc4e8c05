"""Starts the server in the environment that the host made from pyproject.toml."""

from sora_mcp.__main__ import main

main()
