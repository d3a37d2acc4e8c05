"""The sandbox, in this process or served."""

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
"""URL scheme of the videos of an in-process sandbox → base URL where it serves the same videos by file name."""


class Sandbox:
    """A gateway with its tasks and videos in the folder `home`, which several processes may share.

    A video takes `seconds`. `dialect` is the format that it speaks, `model` the name of its model. Raises NotConfigured
    if the extra `media` is not installed.
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
        self.app = self._build_app(in_process=False)
        self._app_in_process = self._build_app(in_process=True)

    def _build_app(self, *, in_process: bool) -> Starlette:
        apps = {SORA: routes.build_app, VIDEOS: routes.build_videos_app, OPENROUTER: routes.build_openrouter_app}
        build = apps.get(self._dialect.partition(":")[0])
        if build is None:
            step = Do(f"Add {self._dialect} to the apps in sandbox/gateway.py.")
            raise NotConfigured(f"The sandbox does not speak {self._dialect}.", step)
        return build(self.store, self._capabilities, in_process=in_process, dialect=self._dialect, model=self._model)

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport to this sandbox without a socket; videos have `file://` URLs that a person can open.

        SERVED maps those to HTTP URLs.
        """
        # An error in a route is logged there and answered with a 500, as when served.
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
    """Serve the sandbox on a loopback port (0: a free one) until a signal stops it; `ready` gets its address."""
    from sora_mcp.runtime.listening import listen  # noqa: PLC0415 - not needed in process

    sandbox = Sandbox(home, seconds=seconds, capabilities=capabilities, dialect=dialect, model=model)
    listen(sandbox.app, "127.0.0.1", port, ready)
