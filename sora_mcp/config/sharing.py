"""The settings of several people who share a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sora_mcp.config.converters import Secret
from sora_mcp.config.endpoint import Endpoint, endpoint_of
from sora_mcp.config.settings import Settings
from sora_mcp.core.cost import Cost
from sora_mcp.core.owners import owner_folder


def settings_of(settings: Settings, owner: str, *, cap: Cost | None = None, api_key: Secret | None = None) -> Settings:
    """The settings of one of them: their rows, their folder, their cap for 24 hours (None: the one for everybody), and
    their own upstream key, if they have one."""
    return replace(
        settings,
        owner=owner,
        api_key=api_key or settings.api_key,
        output_dir=settings.output_dir / owner_folder(owner),
        personal_cap=cap or settings.max_cost_per_owner,
        videos_root=settings.output_dir,
        is_shared=True,
    )


def folder_for_all(settings: Settings) -> Path:
    """The folder of files that every server must see which serves the same people: SORA_HOME where there is one server,
    and that of the videos where there may be several."""
    return settings.shared_folder or settings.home


def endpoint_of_anybody(settings: Settings) -> Endpoint:
    """Where the gateway is, though each may have a key of their own, and none is set for all: its key says nothing.

    Raises NotConfigured.
    """
    return endpoint_of(settings.base_url, Secret("none"), upstream=settings.dialect)
