"""The way to a sandbox in this process: no socket, and its videos are files that a person can open."""

from __future__ import annotations

import httpx
from starlette.types import ASGIApp

SCHEMES = frozenset({"http", "https", "file"})
"""The schemes of addresses that this transport opens."""


class InProcess(httpx.AsyncBaseTransport):
    """Requests go straight to the app. A `file://` address is asked for by its name, among the videos it has made."""

    def __init__(self, app: ASGIApp) -> None:
        # A mistake in a route is logged there and answered with a 500, as when served.
        self._app = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "file":
            url = f"http://sandbox/media/{request.url.path.rpartition('/')[2]}"
            request = httpx.Request(request.method, url, headers=request.headers, extensions=request.extensions)
        return await self._app.handle_async_request(request)
