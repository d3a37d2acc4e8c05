"""The HTTP app of a server: the MCP endpoint and the other routes, all behind one check of Host and Origin."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from sora_mcp.config.settings import Settings
from sora_mcp.server import monitoring
from sora_mcp.server.bounds import MAX_MESSAGE_BYTES, explain_413
from sora_mcp.server.compatibility import ClientCompatibility
from sora_mcp.server.draining import Draining
from sora_mcp.server.monitoring import AccessLog
from sora_mcp.server.owner_limits import OpenRequests, OwnerSessions, session_closer
from sora_mcp.server.request_ids import RequestIds
from sora_mcp.server.session_streams import SessionStreams
from sora_mcp.server.surface import SoraServer

if TYPE_CHECKING:
    from sora_mcp.server.authentication import Authentication

MCP_PATH = "/mcp"

_METHODS = ("GET", "POST", "PUT", "DELETE")
_EXPOSED_HEADERS = ("Mcp-Session-Id", "WWW-Authenticate")
"""Response headers that a web page has to read; browsers expose only a few by default."""

_CACHE_SIZE = 100
"""Accepted hosts and origins, with their ports, that are not checked again."""

_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


class HttpApp:
    """The app that serves `server` at MCP_PATH; its lifespan is the server's.

    Every request passes the check of Host and Origin. The routes of links check themselves who may use them (a signed
    link carries its own proof).
    """

    def __init__(
        self,
        server: SoraServer,
        settings: Settings,
        *,
        authentication: Authentication | None,
    ) -> None:
        routes: list[Route] = []
        if authentication is not None:
            from sora_mcp.identity.upstream_keys import UpstreamKeys  # noqa: PLC0415 - not needed for one person
            from sora_mcp.server.links import Links  # noqa: PLC0415 - likewise

            documents = authentication.documents
            server.serve_owners(UpstreamKeys(documents).get)
            server.links = Links(settings, documents, server.saved_file, authentication.has_access)
            routes = [*server.links.routes(), *authentication.routes]
        self._authentication = authentication
        self.connections: set[Any] = set()
        """The open connections: maintained by the listener, counted by `/metrics`."""
        own_routes = monitoring.routes(server, self.connections, has_authentication=authentication is not None)
        manager = StreamableHTTPSessionManager(server, max_request_body_size=MAX_MESSAGE_BYTES)  # hosts: _HostCheck
        request_ids = RequestIds(manager.handle_request)
        server.middleware.insert(0, request_ids.follow)  # outermost: whatever may take long comes after it
        endpoint: ASGIApp = explain_413(SessionStreams(request_ids))
        close = session_closer(endpoint)
        if settings.ledger_url is not None:
            from sora_mcp.server.sessions import Sessions  # noqa: PLC0415 - not needed for one server

            endpoint = sessions = Sessions(endpoint, server)
            close = sessions.close
        if authentication is not None:
            endpoint = OpenRequests(OwnerSessions(endpoint, close))
        self._draining = Draining(ClientCompatibility(endpoint), server)
        slash = Route(f"{MCP_PATH}/", _redirect_slash, methods=["GET", "POST", "DELETE"])
        other_routes = Router(
            [slash, *own_routes, *routes],
            lifespan=lambda _: manager.run(),
        )
        app: ASGIApp = _Dispatcher(self._draining, other_routes)
        if authentication is not None:
            app = authentication.protect(server, app, MCP_PATH)
        if settings.allowed_origins:
            app = CORSMiddleware(
                app,
                allow_origins=settings.allowed_origins,
                allow_methods=_METHODS,
                allow_headers=["*"],
                expose_headers=_EXPOSED_HEADERS,
            )
        self._app = AccessLog(_HostCheck(app, settings), {MCP_PATH, *(each.path for each in own_routes)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientDisconnect):  # while it was sending: nobody is left to answer
            await self._app(scope, receive, send)

    async def shutdown(self) -> None:
        """Finish the calls in progress, then end everything that would never end by itself."""
        await self._draining.shutdown()
        if self._authentication is not None:
            self._authentication.documents.close()


async def _redirect_slash(_: Request) -> Response:
    """Redirect to the MCP endpoint, which has no trailing slash; people write one."""
    return RedirectResponse(MCP_PATH, status_code=307)


class _Dispatcher:
    """Routes exactly MCP_PATH to the MCP endpoint, since that path requires a token: a router would also match
    `/mcp%0a`."""

    def __init__(self, mcp: ASGIApp, other_routes: ASGIApp) -> None:
        self._mcp = mcp
        self._other_routes = other_routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._mcp if scope.get("path") == MCP_PATH else self._other_routes)(scope, receive, send)


class _HostCheck:
    """Refuses a request to a host, or from a web page, that is not allowed: 421 or 403 (DNS rebinding).

    This machine's own names are always allowed as hosts; a web page of this machine only if no origins are set.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        hosts = [*_LOCAL_HOSTS, *settings.allowed_hosts]
        local_pages = [f"http://{host}{port}" for host in _LOCAL_HOSTS for port in ("", ":*")]
        self._check = TransportSecurityMiddleware(
            TransportSecuritySettings(
                allowed_hosts=[*hosts, *(f"{host}:*" for host in hosts)],
                allowed_origins=list(settings.allowed_origins) or local_pages,
            )
        )
        self._allowed: set[tuple[tuple[bytes, bytes], ...]] = set()
        """Pairs of Host and Origin that were found to be allowed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = tuple((name, value.lower()) for name, value in scope["headers"] if name in {b"host", b"origin"})
            if headers not in self._allowed:
                refusal = await self._check.validate_request(Request({**scope, "headers": headers}))
                if refusal is not None:
                    await refusal(scope, receive, send)
                    return
                if len(self._allowed) < _CACHE_SIZE:
                    self._allowed.add(headers)
        await self._app(scope, receive, send)
