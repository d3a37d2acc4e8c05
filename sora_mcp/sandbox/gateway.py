"""The sandbox in this process, and served."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
from starlette.applications import Starlette

from sora_mcp import media
from sora_mcp.config.endpoint import OPENROUTER, SORA, VIDEOS
from sora_mcp.core.advice import Do
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.errors import NotConfigured
from sora_mcp.dialects.sora import CAPABILITIES
from sora_mcp.sandbox import routes
from sora_mcp.sandbox.store import Store

SERVED = {"file": "http://sandbox/media/"}
"""Scheme of an address that the sandbox in this process names → where it serves the same video by its file's name."""


class Sandbox:
    """The gateway whose tasks and videos lie in the folder `home`, which several processes may share.

    A video takes `seconds`. `dialect`: what it speaks; `model`: what it calls its model. Raises NotConfigured where the
    extra `media` is not installed.
    """

    def __init__(
        self,
        home: Path,
        *,
        seconds: float = 3.0,
        capabilities: Capabilities | None = None,
        clock: Callable[[], float] = time.time,
        dialect: str = SORA,
        model: str | None = None,
    ) -> None:
        media.require()
        self.store = Store(home, seconds, clock)
        self._capabilities = capabilities if capabilities and dialect == SORA else CAPABILITIES
        self._dialect, self._model = dialect, model
        self.app = self._face(in_process=False)
        self._app_in_process = self._face(in_process=True)

    def _face(self, *, in_process: bool) -> Starlette:
        apps = {SORA: routes.build_app, VIDEOS: routes.build_videos_app, OPENROUTER: routes.build_openrouter_app}
        build = apps.get(self._dialect.partition(":")[0])
        if build is None:
            step = Do(f"Add {self._dialect} to the apps in sandbox/gateway.py.")
            raise NotConfigured(f"The sandbox does not speak {self._dialect}.", step)
        return build(self.store, self._capabilities, in_process=in_process, dialect=self._dialect, model=self._model)

    def transport(self) -> httpx.AsyncBaseTransport:
        """Leads to this sandbox without a socket; its videos then have `file://` addresses that a person can open.

        Those files are served as SERVED says.
        """
        # A mistake in a route is logged there and answered with a 500, as when served.
        return httpx.ASGITransport(self._app_in_process, raise_app_exceptions=False)


def serve(
    home: Path,
    *,
    port: int,
    seconds: float,
    ready: Callable[[str], None],
    capabilities: Capabilities | None = None,
    dialect: str = SORA,
    model: str | None = None,
) -> None:
    """Serve the sandbox on a loopback port (0: a free one) until a signal ends it; `ready` is told its address."""
    from sora_mcp.runtime.listening import listen  # noqa: PLC0415 - in process nobody needs it

    sandbox = Sandbox(home, seconds=seconds, capabilities=capabilities, dialect=dialect, model=model)
    listen(sandbox.app, "127.0.0.1", port, ready)
