"""The formats of upstreams: one package each, all with the methods of `protocol.Dialect`. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from sora_mcp.config.endpoint import OPENROUTER, PROFILES, SORA, VIDEOS
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import AskUser
from sora_mcp.core.errors import NotConfigured
from sora_mcp.dialects.protocol import Dialect
from sora_mcp.dialects.sora import Sora


def _videos(profile: str, settings: Settings) -> Dialect:
    from sora_mcp.dialects.videos import configured as build  # noqa: PLC0415 - most servers start without it

    return build(profile, settings)


def _openrouter(settings: Settings) -> Dialect:
    from sora_mcp.dialects.openrouter import OpenRouter  # noqa: PLC0415 - as above

    return OpenRouter.configured(settings)


DIALECTS: Mapping[str, Callable[[Settings], Dialect]] = (
    {SORA: Sora.configured}
    | {f"{VIDEOS}:{profile}": partial(_videos, profile) for profile in PROFILES}
    | {OPENROUTER: _openrouter}
)
"""Every dialect's name → a function that makes it from the settings."""


def name_of(settings: Settings) -> str:
    """Return the name of the configured gateway's dialect."""
    return settings.dialect


def configured(settings: Settings) -> Dialect:
    """Return the configured gateway's dialect."""
    return named(name_of(settings), settings)


def named(name: str, settings: Settings) -> Dialect:
    """Return a dialect by its name, whatever is configured now. Raises NotConfigured for an unknown name."""
    if name not in DIALECTS:
        raise NotConfigured(
            "This video was made on a kind of server that this release does not know.",
            AskUser("use the newer release that it was made with"),
        )
    return DIALECTS[name](settings)


__all__ = ["DIALECTS", "configured", "name_of", "named"]
