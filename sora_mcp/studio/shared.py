"""What the studios of all who share a server have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from anyio.abc import TaskGroup

from sora_mcp.config.converters import Secret
from sora_mcp.config.settings import Settings
from sora_mcp.ledger import Ledger
from sora_mcp.media.viewer import Viewer
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.poller import Poller
from sora_mcp.studio.submitter import Submitter
from sora_mcp.studio.watcher import Watcher

KeyOf = Callable[[str, str], Secret | None]
"""The upstream key of one of those who share a server (owner, base address), None where they have none of their own.
Raises FileProblem."""


@dataclass(slots=True)
class Shared:
    """One ledger, one client of the gateway, one watcher: for one person as for many."""

    ledger: Ledger
    background: TaskGroup
    connector: Connector
    submitter: Submitter
    watcher: Watcher
    viewer: Viewer

    @classmethod
    def of(cls, settings: Settings, ledger: Ledger, background: TaskGroup) -> Self:
        """For the first of them."""
        connector, submitter = Connector(settings, ledger), Submitter(ledger, background)
        return cls(ledger, background, connector, submitter, Watcher(ledger, Poller(ledger)), Viewer())
