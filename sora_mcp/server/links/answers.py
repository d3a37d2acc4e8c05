"""What the routes of signed links share: who may use a link, and how it is answered."""

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
from sora_mcp.server.verifying import TRY_AGAIN_AFTER_S, CannotTell

HEADERS = {
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer: whoever has a link may use it, so that it and what it leads to are kept nowhere else."""


AGAIN = {"Retry-After": str(TRY_AGAIN_AFTER_S)}


class Refusal(Exception):
    """The request is refused with `status`; `message` says why and what to do."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = JSONResponse({"error": message}, status_code=status, headers=headers)


def path_of(use: Use) -> str:
    """Where the links of a use lead, as a route; whatever stands there is for `link_of`, so that nothing is mended."""
    return f"/{use}/{{link:path}}"


async def link_of(request: Request, verifier: LinkVerifier, use: Use) -> Link:
    """The link that a request uses. Raises Refusal where nobody, or not this caller, may use it."""
    try:
        link = await to_thread.run_sync(verifier.read, use, request.path_params["link"], request.url.query)
    except UnusableLink as error:
        raise Refusal(403, f"{error} {_ANOTHER[use]}") from None
    except FileProblem as error:
        raise Refusal(503, error.message) from None
    except CannotTell as reason:
        raise Refusal(503, f"{reason} The link is as good as it was.", AGAIN) from None
    if "authorization" in request.headers:
        principal = current_principal()
        if principal is None:
            raise Refusal(401, "The token is not valid. This link needs none.", {"WWW-Authenticate": "Bearer"})
        if principal.owner != link.owner:
            raise Refusal(403, "This link is somebody else's: it cannot be used with your token.")
    return link


_ANOTHER: dict[Use, str] = {
    "videos": "download_video gives another.",
    "images": "Name the image's path as url again: the refusal gives another.",
}


class LinkVerifier(Struct, frozen=True):
    """What it takes to know a good link. `is_let_in`: whether an owner still has access to the server."""

    signer: Signer
    is_let_in: Callable[[str], bool]

    def read(self, use: Use, text: str, query: str) -> Link:
        """The link of a path and a query. Raises UnusableLink, FileProblem or CannotTell."""
        if query:
            raise UnusableLink("This link is not valid: something was added to it.")
        link = self.signer.read(use, text)
        if not self.is_let_in(link.owner):
            raise UnusableLink("This link is not valid any more: its owner has no access to this server.")
        return link


class Endpoint:
    """A route of signed links as an ASGI app: `answer` raises Refusal, and every answer has HEADERS."""

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
