"""What upstreams speak: one package for each format, all with the methods of `protocol.Dialect`. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sora_mcp.config.settings import Settings
from sora_mcp.dialects.protocol import Dialect
from sora_mcp.dialects.sora import Sora

DIALECTS: Mapping[str, Callable[[Settings], Dialect]] = {"sora": Sora.configured}
"""Every dialect by its name: what makes it from the settings."""


def name_of(_: Settings) -> str:
    """The name of the dialect that the configured gateway speaks."""
    return "sora"


def configured(settings: Settings) -> Dialect:
    """The dialect that the configured gateway speaks."""
    return DIALECTS[name_of(settings)](settings)


__all__ = ["DIALECTS", "configured", "name_of"]
