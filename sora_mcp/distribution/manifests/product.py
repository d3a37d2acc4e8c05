"""What every manifest says of the product, once."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sora_mcp import __version__

Document = dict[str, Any]

NAME = "sora-mcp"
KEY = "sora"
"""What the server is called in a client's configuration."""

TITLE = "Sora Videos"
DESCRIPTION = "Lets agents make, remix, storyboard and blend videos at a Sora-format gateway."
AUTHOR = {"name": "The sora_mcp authors"}
LICENSE = "MIT"
KEYWORDS = ["video", "sora", "media", "mcp"]
REGISTRY_NAME = "io.github.OWNER/sora-mcp"
REPOSITORY = "https://github.com/OWNER/sora-mcp"
"""OWNER is filled in by whoever publishes; nothing is published yet."""

REQUIREMENT = f"{NAME}[media]=={__version__}"
"""Pinned, so that nobody who takes the name over later is handed a key."""


class Launch(Struct, frozen=True):
    """How a client starts the server."""

    command: str
    args: tuple[str, ...] = ()

    @property
    def is_lasting(self) -> bool:
        """Whether the command itself stays where it is, rather than fetching the package at each start."""
        return not self.args


PUBLISHED = Launch("uvx", ("--from", REQUIREMENT, NAME))
"""For the day on which the package is published; until then, an installed script's absolute path."""
