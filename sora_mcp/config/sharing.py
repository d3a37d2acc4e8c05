"""The settings of several people who share a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sora_mcp.config.converters import Secret
from sora_mcp.config.endpoint import Endpoint, make_endpoint
from sora_mcp.config.settings import Settings
from sora_mcp.core.cost import Cost
from sora_mcp.core.owners import owner_folder


def settings_for_owner(
    settings: Settings, owner: str, *, cap: Cost | None = None, api_key: Secret | None = None
) -> Settings:
    """Return the settings of one person: owner, folder, cap for 24 hours (None: `max_cost_per_owner`), and their own
    upstream key, if they have one."""
    return replace(
        settings,
        owner=owner,
        api_key=api_key or settings.api_key,
        output_dir=settings.output_dir / owner_folder(owner),
        personal_cap=cap or settings.max_cost_per_owner,
        videos_root=settings.output_dir,
        is_shared=True,
    )


def common_folder(settings: Settings) -> Path:
    """Return the folder for files that all servers of the same people need: SORA_HOME if there is one server, the
    folder of the videos if there may be several."""
    return settings.shared_folder or settings.home


def endpoint_without_key(settings: Settings) -> Endpoint:
    """Return the gateway's endpoint with a placeholder key, for when people may have their own keys and no common one
    is set. Raises NotConfigured.
    """
    return make_endpoint(settings.base_url, Secret("none"), settings.dialect)
