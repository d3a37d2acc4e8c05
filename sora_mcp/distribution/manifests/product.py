"""The product's metadata, common to all manifests."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sora_mcp import __version__

Document = dict[str, Any]

NAME = "sora-mcp"
KEY = "sora"
"""The server's name in a client's configuration."""

TITLE = "Sora Videos"
DESCRIPTION = "Lets agents make, remix, storyboard and blend videos at a Sora-format gateway."
AUTHOR = {"name": "The sora_mcp authors"}
LICENSE = "MIT"
KEYWORDS = ["video", "sora", "media", "mcp"]
REGISTRY_NAME = "io.github.OWNER/sora-mcp"
REPOSITORY = "https://github.com/OWNER/sora-mcp"
"""OWNER is a placeholder until the package is published."""

REQUIREMENT = f"{NAME}[media]=={__version__}"
"""Pinned, so that nobody who takes over the name later gets a key."""


class Launch(Struct, frozen=True):
    """How a client starts the server."""

    command: str
    args: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        """Whether the command is an installed script, rather than one that fetches the package at each start."""
        return not self.args


PUBLISHED = Launch("uvx", ("--from", REQUIREMENT, NAME))
"""For when the package is published; until then, use an installed script's absolute path."""
