"""The sandbox in this process, and served."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx

from sora_mcp import media
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.dialects.sora import CAPABILITIES
from sora_mcp.sandbox.routes import build_app
from sora_mcp.sandbox.store import Store

SERVED = {"file": "http://sandbox/media/"}
"""Scheme of an address that the sandbox in this process names → where it serves the same video by its file's name."""


class Sandbox:
    """The gateway whose tasks and videos lie in the folder `home`, which several processes may share.

    A video takes `seconds`. Raises NotConfigured where the extra `media` is not installed.
    """

    def __init__(
        self,
        home: Path,
        *,
        seconds: float = 3.0,
        capabilities: Capabilities | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        media.require()
        self.store = Store(home, seconds, clock)
        self.app = build_app(self.store, capabilities or CAPABILITIES, in_process=False)
        self._app_in_process = build_app(self.store, capabilities or CAPABILITIES, in_process=True)

    def transport(self) -> httpx.AsyncBaseTransport:
        """Leads to this sandbox without a socket; its videos then have `file://` addresses that a person can open.

        Those files are served as SERVED says.
        """
        # A mistake in a route is logged there and answered with a 500, as when served.
        return httpx.ASGITransport(self._app_in_process, raise_app_exceptions=False)


def serve(
    home: Path, *, port: int, seconds: float, ready: Callable[[str], None], capabilities: Capabilities | None = None
) -> None:
    """Serve the sandbox on a loopback port (0: a free one) until a signal ends it; `ready` is told its address."""
    from sora_mcp.runtime.listening import listen  # noqa: PLC0415 - in process nobody needs it

    listen(Sandbox(home, seconds=seconds, capabilities=capabilities).app, "127.0.0.1", port, ready)
