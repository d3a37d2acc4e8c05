"""The HTTP app of a server: the MCP endpoint and the routes beside it, all behind one check of Host and Origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from sora_mcp.config.settings import Settings
from sora_mcp.server import watching
from sora_mcp.server.bounds import MOST_BYTES, in_words
from sora_mcp.server.draining import Draining
from sora_mcp.server.leniency import Lenient
from sora_mcp.server.shares import OpenRequests, OwnersSessions, closed_by
from sora_mcp.server.surface import SoraServer
from sora_mcp.server.watching import AccessLog

if TYPE_CHECKING:
    from sora_mcp.server.authentication import Authentication

MCP_PATH = "/mcp"

_METHODS = ("GET", "POST", "PUT", "DELETE")
_SHOWN = ("Mcp-Session-Id", "WWW-Authenticate")
"""Headers of answers that a web page has to read; browsers show it a few only."""

_MOST_ALLOWED = 100
"""Hosts and origins, with their ports, that are not looked at again."""

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


class HttpApp:
    """The app that serves `server` at MCP_PATH and `routes` beside it; its lifespan is the server's.

    Each request, to whichever path, passes the check of Host and Origin. `routes` check for themselves who may use
    them (a signed link carries its own proof).
    """

    def __init__(
        self,
        server: SoraServer,
        settings: Settings,
        *,
        authentication: Authentication | None = None,
        routes: Sequence[Route] = (),
    ) -> None:
        if authentication is not None:
            from sora_mcp.identity.upstream_keys import UpstreamKeys  # noqa: PLC0415 - a single person does without
            from sora_mcp.server.links import Links  # noqa: PLC0415 - likewise

            documents = authentication.documents
            server.share(UpstreamKeys(documents).get)
            server.links = Links(settings, documents, server.saved_file, authentication.lets_in)
            routes = [*routes, *server.links.routes()]
        self._authentication = authentication
        self.connections: set[Any] = set()
        """Those that are open: kept by whoever listens, counted by `/metrics`."""
        own_routes = watching.routes(server, self.connections, asks_callers=authentication is not None)
        manager = StreamableHTTPSessionManager(server, max_request_body_size=MOST_BYTES)  # _Gate checks hosts
        endpoint: ASGIApp = in_words(manager.handle_request)
        close = closed_by(endpoint)
        if settings.ledger_url is not None:
            from sora_mcp.server.sessions import Sessions  # noqa: PLC0415 - one server does without

            endpoint = sessions = Sessions(endpoint, server)
            close = sessions.close
        if authentication is not None:
            endpoint = OpenRequests(OwnersSessions(endpoint, close))
        self._draining = Draining(Lenient(endpoint), server)
        slash = Route(f"{MCP_PATH}/", _without_slash, methods=["GET", "POST", "DELETE"])
        others = Router(
            [slash, *own_routes, *routes, *(authentication.routes if authentication else ())],
            lifespan=lambda _: manager.run(),
        )
        app: ASGIApp = _Endpoints(self._draining, others)
        if authentication is not None:
            app = authentication.protect(server, app, MCP_PATH)
        if settings.allowed_origins:
            app = CORSMiddleware(
                app,
                allow_origins=settings.allowed_origins,
                allow_methods=_METHODS,
                allow_headers=["*"],
                expose_headers=_SHOWN,
            )
        self._app = AccessLog(_Gate(app, settings), {MCP_PATH, *(each.path for each in own_routes)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def end(self) -> None:
        """Finish the calls under way, then end what never would by itself."""
        await self._draining.end()
        if self._authentication is not None:
            self._authentication.documents.close()


async def _without_slash(_: Request) -> Response:
    """The MCP endpoint has no slash at its end; people write one."""
    return RedirectResponse(MCP_PATH, status_code=307)


class _Endpoints:
    """The MCP endpoint is reached by its own path only, for which a token is asked: a router would also take `/mcp%0a`
    for it."""

    def __init__(self, mcp: ASGIApp, others: ASGIApp) -> None:
        self._mcp = mcp
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._mcp if scope.get("path") == MCP_PATH else self._others)(scope, receive, send)


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
        self._allowed: set[tuple[tuple[bytes, bytes], ...]] = set()
        """Headers that were found to be so."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = tuple((name, value.lower()) for name, value in scope["headers"] if name in {b"host", b"origin"})
            if headers not in self._allowed:
                refusal = await self._check.validate_request(Request({**scope, "headers": headers}))
                if refusal is not None:
                    await refusal(scope, receive, send)
                    return
                if len(self._allowed) < _MOST_ALLOWED:
                    self._allowed.add(headers)
        await self._app(scope, receive, send)
