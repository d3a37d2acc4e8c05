"""Authenticate callers over HTTP: bearer tokens, challenges, and streams that end with their token.

Rules: RFC 6750 (bearer tokens), RFC 9728 (protected-resource metadata), MCP's authorization (both eras).
"""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from msgspec import Struct
from starlette.authentication import AuthCredentials
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sora_mcp.config.documents import Documents
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import Declined
from sora_mcp.identity.oauth import AccessClaims, TokenRefused
from sora_mcp.identity.scopes import SCOPES
from sora_mcp.ledger import open_documents
from sora_mcp.server.bounds import read_ahead
from sora_mcp.server.principals import VerifiedToken, current_token
from sora_mcp.server.revocation import Exchanges, Termination
from sora_mcp.server.scopes import check_scope, required_scope
from sora_mcp.server.verifying import RETRY_AFTER_S, CannotVerify, Verifier, create_verifier

if TYPE_CHECKING:
    from sora_mcp.server.surface import SoraServer

logger = logging.getLogger(__name__)

METADATA_PATH = "/.well-known/oauth-protected-resource"


class Refusal(Struct, frozen=True):
    """Why a request is not served: a status, and for 401 and 403 a challenge that says what is needed.

    `error`: RFC 6750's code, empty if no token was sent.
    """

    status: int
    error: str
    reason: str

    def response(self, metadata_url: str | None) -> Response:
        headers = {"Cache-Control": "no-store"}
        if self.status in {401, 403}:
            values = {"error": self.error, "error_description": self.error and self.reason, "scope": " ".join(SCOPES)}
            values["resource_metadata"] = metadata_url or ""
            pairs = [f'{name}="{value}"' for name, value in values.items() if value]
            headers["WWW-Authenticate"] = f"Bearer {', '.join(pairs)}"
        if self.status == 503:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        body = {"error": self.error or "invalid_token", "error_description": self.reason}
        return JSONResponse(body, status_code=self.status, headers=headers)


NO_TOKEN = Refusal(401, "", "This server requires a token: send the header Authorization: Bearer TOKEN.")
TWO_TOKENS = Refusal(400, "invalid_request", "There is more than one Authorization header.")
NO_SCOPE = Refusal(403, "insufficient_scope", f"The token has none of the scopes {' and '.join(SCOPES)}.")


class Authentication:
    """How callers of a server are authenticated."""

    def __init__(self, verifier: Verifier, documents: Documents, *, issuer: str = "", audience: str = "") -> None:
        """`documents`: where the server stores what it knows about people. `issuer` and `audience`: where clients get
        tokens, and for which address; empty without OAuth."""
        self.documents = documents
        self._verifier = verifier
        self._issuer = issuer
        self._audience = audience
        parts = urlsplit(audience)
        self._paths = dict.fromkeys((METADATA_PATH, f"{METADATA_PATH}{parts.path.rstrip('/')}"))
        self._metadata_url = f"{parts.scheme}://{parts.netloc}{list(self._paths)[-1]}" if issuer else None

    @classmethod
    def from_settings(cls, settings: Settings) -> Authentication:
        """Create it from the settings. Raise NotConfigured if a setting that OAuth needs is missing."""
        documents = open_documents(settings, watched=True)
        verifier = create_verifier(settings, documents)
        if "oauth" not in settings.auth:
            return cls(verifier, documents)
        return cls(verifier, documents, issuer=settings.oauth_issuer or "", audience=settings.oauth_audience or "")

    @property
    def routes(self) -> list[Route]:
        """Routes of the metadata by which clients find the issuer (RFC 9728), with and without the resource's path."""
        if not self._issuer:
            return []
        document = {
            "resource": self._audience,
            "authorization_servers": [self._issuer],
            "scopes_supported": list(SCOPES),
            "bearer_methods_supported": ["header"],
            "resource_name": "Sora videos",
        }

        async def metadata(_: Request) -> Response:
            return JSONResponse(document, headers={"Access-Control-Allow-Origin": "*", "Cache-Control": "max-age=300"})

        return [Route(path, metadata) for path in self._paths]

    def has_access(self, owner: str) -> bool:
        """Return whether an owner may still have access. Raise CannotVerify."""
        return self._verifier.has_access(owner)

    def check_caller(self) -> None:
        """Raise Declined if the token of the current request is no longer valid."""
        try:
            self._verifier.check(current_token())
        except (TokenRefused, CannotVerify) as reason:
            logger.warning("a request that the user agreed to was not submitted: %s", reason)
            raise Declined(
                "The token that this call was made with is no longer valid, so nothing was submitted.",
                Do("Call again with a valid token."),
            ) from None

    def protect(self, server: SoraServer, app: ASGIApp, path: str) -> ASGIApp:
        """Wrap the app of `server` so that it serves MCP at `path` only with a valid token that allows the request.

        On other paths a valid token is recognized too (`current_principal`), but none is required.
        """
        server.middleware.append(check_scope)
        server.check_caller = self.check_caller
        return _Guard(app, path, self._verifier, self._metadata_url)


class _Guard:
    def __init__(self, app: ASGIApp, path: str, verifier: Verifier, metadata_url: str | None) -> None:
        self._app = AuthContextMiddleware(app)
        self._exchanges = Exchanges(self._app)
        self._path = path
        self._verifier = verifier
        self._metadata_url = metadata_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = await self._authenticate(scope)
        if isinstance(caller, VerifiedToken):
            receive, refusal = await self._check_scopes(caller, scope, receive)
            if refusal is None:
                await self._serve(caller, scope, receive, send)
                return
        elif scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        else:
            refusal = caller
        await refusal.response(self._metadata_url)(scope, receive, send)

    async def _authenticate(self, scope: Scope) -> VerifiedToken | Refusal:
        """Return the caller's verified token, or why there is none. Only the header counts: addresses are logged and
        passed on."""
        headers = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(headers) > 1:
            return TWO_TOKENS
        scheme, _, token = headers[0].decode("latin-1").partition(" ") if headers else ("", "", "")
        if scheme.lower() != "bearer" or not token.strip():
            return NO_TOKEN
        try:
            return await self._verifier.verify(token.strip())
        except TokenRefused as error:
            logger.info("a token is refused: %s", error)
            return _refusal(error)
        except CannotVerify as reason:
            return _refusal(reason)

    async def _check_scopes(
        self, caller: VerifiedToken, scope: Scope, receive: Receive
    ) -> tuple[Receive, Refusal | None]:
        """Return a `receive` with the whole body, and a refusal if the token lacks a scope that its issuer could grant.

        Clients respond to a 403 by asking the issuer for more scopes. With a static token the call fails with a message
        for the agent instead (`check_scope`).
        """
        if scope["path"] != self._path:
            return receive, None
        scopes = caller.principal.scopes
        if scopes.isdisjoint(SCOPES):
            return receive, NO_SCOPE
        if scopes.issuperset(SCOPES) or scope["method"] != "POST" or not isinstance(caller.proof, AccessClaims):
            return receive, None
        body, receive = await read_ahead(receive)
        missing = _required_scope(body)
        return receive, None if missing is None or missing in scopes else _missing_scope(missing)

    async def _serve(self, caller: VerifiedToken, scope: Scope, receive: Receive, send: Send) -> None:
        user = AuthenticatedUser(caller)
        scope.update(user=user, auth=AuthCredentials(user.scopes))
        await self._exchanges.serve(scope, receive, send, partial(self._termination, caller))

    def _termination(self, caller: VerifiedToken) -> Termination | None:
        """Return why an accepted request has to end, and its answer; None while the token is valid."""
        try:
            self._verifier.check(caller)
        except (TokenRefused, CannotVerify) as reason:
            return Termination(str(reason), _refusal(reason).response(self._metadata_url))
        return None


def _refusal(reason: TokenRefused | CannotVerify) -> Refusal:
    if isinstance(reason, CannotVerify):
        return Refusal(503, "temporarily_unavailable", str(reason))
    return Refusal(401, "invalid_token", str(reason))


def _missing_scope(scope: str) -> Refusal:
    return Refusal(403, "insufficient_scope", f"The token lacks the scope {scope}. Nothing was submitted.")


def _required_scope(body: bytes) -> str | None:
    """Return the scope that a message needs; None if it cannot be read: its handler reports that."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("method"), str):
        return None
    return required_scope(message["method"], message.get("params"))
