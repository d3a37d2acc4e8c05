"""The HTTP app of a server: the MCP endpoint and the routes beside it, all behind one check of Host and Origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sora_mcp.config.settings import Settings
from sora_mcp.server.bounds import MOST_BYTES, in_words
from sora_mcp.server.leniency import Lenient
from sora_mcp.server.surface import SoraServer

if TYPE_CHECKING:
    from sora_mcp.server.authentication import Authentication

MCP_PATH = "/mcp"

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def http_app(
    server: SoraServer,
    settings: Settings,
    *,
    authentication: Authentication | None = None,
    routes: Sequence[Route] = (),
) -> ASGIApp:
    """The app that serves `server` at MCP_PATH and `routes` beside it; its lifespan is the server's.

    Each request, to whichever path, passes the check of Host and Origin. `routes` check for themselves who may use
    them (a signed link carries its own proof).
    """
    app: ASGIApp = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        max_request_body_size=MOST_BYTES,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # checked below, for all
        custom_starlette_routes=[*routes, *(authentication.routes if authentication else ())],
    )
    app = _Endpoints(app)
    if authentication is not None:
        app = authentication.protect(server, app, MCP_PATH)
    return _Gate(app, settings)


class _Endpoints:
    """What the MCP endpoint needs beyond the SDK; a body that is too long for it may be right for another route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._mcp = Lenient(in_words(app))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._mcp if scope.get("path") == MCP_PATH else self._app)(scope, receive, send)


class _Gate:
    """Refuses a request to a host, or from a web page, that is none of ours: 421 or 403 (DNS rebinding).

    This machine's own names are always allowed as hosts; a web page of this machine only where no origins are set.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        hosts = [*_LOCAL, *settings.allowed_hosts]
        local_pages = [f"http://{host}{port}" for host in _LOCAL for port in ("", ":*")]
        self._check = TransportSecurityMiddleware(
            TransportSecuritySettings(
                allowed_hosts=[*hosts, *(f"{host}:*" for host in hosts)],
                allowed_origins=list(settings.allowed_origins) or local_pages,
            )
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = await self._check.validate_request(Request(scope))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)
