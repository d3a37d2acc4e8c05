"""For operators: liveness and readiness, metrics, and an access log."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sized

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_mcp.config.binding import is_loopback
from sora_mcp.core.errors import SoraError
from sora_mcp.server.counting import Calls
from sora_mcp.server.principals import current_principal
from sora_mcp.server.surface import SoraServer
from sora_mcp.tools import ForAgents

access_log = logging.getLogger("sora_mcp.access")

_NO_EXTRA = "Metrics need the extra `metrics`: install sora-mcp[metrics] and start the server again.\n"
_UNAUTHENTICATED = (
    "Metrics require a token: send the header Authorization: Bearer TOKEN. Only requests from this machine need none.\n"
)


def routes(server: SoraServer, connections: Sized, *, has_authentication: bool) -> list[Route]:
    """Return `/healthz`, `/readyz` and `/metrics`. `has_authentication`: whether callers have to authenticate."""
    calls = Calls()
    server.middleware.insert(0, calls)  # outermost: whatever may refuse a call comes after it

    async def health(_: Request) -> Response:
        return JSONResponse({"alive": True})

    async def ready(_: Request) -> Response:
        readiness = await server.studio.readiness()
        describe = ForAgents().message
        checks = {"ledger": readiness.ledger, "gateway": readiness.gateway}
        report = {name: "ok" if problem is None else describe(problem) for name, problem in checks.items()}
        return JSONResponse({"ready": readiness.is_ready} | report, status_code=200 if readiness.is_ready else 503)

    async def metrics(request: Request) -> Response:
        if has_authentication and current_principal() is None and not _is_local(request):
            return PlainTextResponse(_UNAUTHENTICATED, status_code=401, headers={"WWW-Authenticate": "Bearer"})
        try:
            from sora_mcp.server.metrics import CONTENT_TYPE, exposition  # noqa: PLC0415 - an extra, and 50 ms
        except ModuleNotFoundError:
            return PlainTextResponse(_NO_EXTRA, status_code=501)
        try:
            states = {str(state): number for state, number in (await server.studio.states()).items()}
        except SoraError as error:
            from sora_mcp.tools.remote import FOR_REMOTE_AGENTS  # noqa: PLC0415 - the client gets no paths of files

            return PlainTextResponse(f"{FOR_REMOTE_AGENTS.message(error.parts)}\n", status_code=503)
        return Response(exposition(calls, states, len(connections)), media_type=CONTENT_TYPE)

    return [Route("/healthz", health), Route("/readyz", ready), Route("/metrics", metrics)]


def _is_local(request: Request) -> bool:
    return request.client is not None and is_loopback(request.client.host)


class AccessLog:
    """Logs a line for each request: no query (it may hold a signature), no headers, and no unknown path."""

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not access_log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        started_at, status, size = time.perf_counter(), 0, 0

        async def count_bytes(message: Message) -> None:
            nonlocal status, size
            status = message.get("status", status)
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, count_bytes)
        finally:
            client, user = scope.get("client"), scope.get("user")
            fields = {
                "method": scope["method"],
                "path": self._path(scope),
                "status": status or None,
                "seconds": f"{time.perf_counter() - started_at:.3f}",
                "bytes": size,
                "client": client[0] if client else None,
                "owner": None if user is None else user.access_token.subject,
            }
            access_log.info("request", extra={"fields": fields})

    def _path(self, scope: Scope) -> str:
        if scope["path"] in self._paths:
            return str(scope["path"])
        return str(getattr(scope.get("route"), "path", "other"))
