"""Shared by the routes of signed links: who may use a link, and the response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from anyio import to_thread
from msgspec import Struct
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from sora_mcp.core.errors import FileProblem
from sora_mcp.server.links.signing import Link, Signer, UnusableLink, Use
from sora_mcp.server.principals import current_principal
from sora_mcp.server.verifying import RETRY_AFTER_S, CannotVerify

HEADERS = {
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response: whoever has a link may use it, so neither the link nor its content may be cached or
leaked."""


UNAVAILABLE_HEADERS = {"Retry-After": str(RETRY_AFTER_S)}
"""Headers for 503: when the client may try again."""


class Refusal(Exception):
    """The request is refused with `status`; `message` says why and what to do."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = JSONResponse({"error": message}, status_code=status, headers=headers)


def route_path(use: Use) -> str:
    """Return the route path of a use's links; everything after the use goes to `read_link`, unnormalized."""
    return f"/{use}/{{link:path}}"


async def read_link(request: Request, verifier: LinkVerifier, use: Use) -> Link:
    """Return the link that a request uses. Raise Refusal if it is not valid, or not for this caller."""
    try:
        link = await to_thread.run_sync(verifier.read, use, request.path_params["link"], request.url.query)
    except UnusableLink as error:
        raise Refusal(403, f"{error} {_RENEWAL_HINTS[use]}") from None
    except FileProblem as error:
        raise Refusal(503, error.message) from None
    except CannotVerify as reason:
        raise Refusal(503, f"{reason} The link is still valid.", UNAVAILABLE_HEADERS) from None
    if "authorization" in request.headers:
        principal = current_principal()
        if principal is None:
            raise Refusal(401, "The token is not valid. This link needs no token.", {"WWW-Authenticate": "Bearer"})
        if principal.owner != link.owner:
            raise Refusal(403, "This link belongs to someone else: it cannot be used with your token.")
    return link


_RENEWAL_HINTS: dict[Use, str] = {
    "videos": "Call download_video for a new one.",
    "images": "Give the image's path as url again: the error contains a new link.",
}


class LinkVerifier(Struct, frozen=True):
    """Verifies links. `has_access`: whether an owner still has access to the server."""

    signer: Signer
    has_access: Callable[[str], bool]

    def read(self, use: Use, text: str, query: str) -> Link:
        """Return the link of a path and a query. Raise UnusableLink, FileProblem or CannotVerify."""
        if query:
            raise UnusableLink("This link is not valid: something was added to it.")
        link = self.signer.read(use, text)
        if not self.has_access(link.owner):
            raise UnusableLink("This link is no longer valid: its owner no longer has access to this server.")
        return link


class Endpoint:
    """A route of signed links as an ASGI app: `answer` may raise Refusal, and every response has HEADERS."""

    def __init__(self, answer: Callable[[Request, Send], Awaitable[None]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self._answer(Request(scope, receive), send_with_headers)
        except Refusal as refusal:
            await refusal.response(scope, receive, send_with_headers)
