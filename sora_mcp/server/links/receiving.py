"""An image by a signed link: the body is its file, bounded in bytes and in time, and checked as local ones are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
from anyio import CapacityLimiter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Send

from sora_mcp.core.errors import FileProblem, InvalidInput
from sora_mcp.gateway.folder import Silent, check_mounted, in_folder
from sora_mcp.server.bounds import drain
from sora_mcp.server.links.answers import AGAIN, LinkVerifier, Refusal, link_of
from sora_mcp.server.links.signing import Link
from sora_mcp.server.shares import TRY_LATER, Share, ShareUsedUp
from sora_mcp.studio.image_files import kind_of
from sora_mcp.studio.images import KINDS, MAX_IMAGE_BYTES
from sora_mcp.studio.uploads import LinkUsed, Part, QuotaReached, Uploaded, Uploads

RECEIVE_WITHIN_S = 120.0
"""Seconds for an image to come in as a whole."""
MOST_AT_ONCE = 4
"""Images of one owner that come in at the same time."""
_CHECKED_AT_ONCE = 2
"""Images that are held in memory to be checked."""
_HEAD_BYTES = 256
"""Of a file, in which its kind shows."""
_HOW = "Send the file itself as the body, as curl -T does"


class Images:
    """Answers PUT and POST of links for images. `is_shared`: the folder may be one that has to be mounted."""

    def __init__(self, verifier: LinkVerifier, folder: Path, *, is_shared: bool) -> None:
        self._verifier = verifier
        self._folder = folder
        self._is_shared = is_shared
        self._coming = Share(MOST_AT_ONCE)
        self._refused = Share(MOST_AT_ONCE)
        self._checking = CapacityLimiter(_CHECKED_AT_ONCE)

    async def answer(self, request: Request, send: Send) -> None:
        """Keep the image and tell its name, or say why not."""
        link = await link_of(request, self._verifier, "images")  # nobody's body is waited for before they may send one
        response: Response
        body = _Body(request.receive)
        request = Request(request.scope, body.receive)
        try:
            response = _told(await self._received(link, request))
        except ClientDisconnect:  # nobody reads an answer
            return
        except Refusal as refusal:
            if not (body.is_over or _waits_before_it_sends(request, body)):
                with suppress(ShareUsedUp), self._refused.one_more(link.owner):
                    await drain(request.receive)  # whoever is cut off while they send reads no answer
            response = refusal.response
        await response(request.scope, request.receive, send)

    async def _received(self, link: Link, request: Request) -> Uploaded:
        _check_head(request)
        uploads = Uploads(self._folder, link.owner)
        with _in_words(), self._coming.one_more(link.owner):
            if self._is_shared:
                await in_folder(check_mounted, self._folder)
            part = await in_folder(uploads.begin, _declared_size(request))
            try:
                with anyio.fail_after(RECEIVE_WITHIN_S):
                    await _take(request, part)
                async with self._checking:
                    return await in_folder(uploads.keep, part, str(link.subject[0]))
            finally:
                with suppress(Silent), anyio.CancelScope(shield=True):
                    await in_folder(part.discard)


def _told(uploaded: Uploaded) -> Response:
    next_step = f"Give {uploaded.name} as the url of the image. It is kept for a day, for you alone."
    content = {"url": uploaded.name, "kind": uploaded.kind, "bytes": uploaded.bytes, "next_step": next_step}
    return JSONResponse(content, status_code=201)


@contextmanager
def _in_words() -> Iterator[None]:
    """What goes wrong, as a refusal."""
    try:
        yield
    except InvalidInput as error:
        raise Refusal(415, error.message) from None
    except ShareUsedUp:
        message = f"{MOST_AT_ONCE} of your images are coming in already. Send this one again when they are here."
        raise Refusal(429, message, TRY_LATER) from None
    except QuotaReached as error:
        raise Refusal(429, str(error), {"Retry-After": f"{error.retry_after_s:.0f}"}) from None
    except LinkUsed:
        raise Refusal(409, "Another image came by this link before; each image needs a link of its own.") from None
    except Silent:
        raise Refusal(
            503, "The folder of images does not answer. Send it again later by the same link.", AGAIN
        ) from None
    except TimeoutError:
        raise Refusal(408, f"The image did not come within {RECEIVE_WITHIN_S:g} s. Send it again.") from None
    except FileProblem as error:
        raise Refusal(507, error.message) from None
    except OSError as error:
        raise Refusal(507, f"The image cannot be kept here: its folder cannot be used ({error.strerror}).") from None


def _check_head(request: Request) -> None:
    """Raise Refusal for a body of which its head says that it is no image, or too large."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"", "application/octet-stream"} and not kind.startswith("image/"):
        raise Refusal(415, f"The Content-Type is not that of an image. {_HOW}; allowed: {KINDS}.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, f"The body is compressed. {_HOW}.")
    if "content-range" in request.headers:
        raise Refusal(400, f"An image comes in one piece. {_HOW}.")
    if _declared_size(request) > MAX_IMAGE_BYTES:
        raise _too_large()


def _declared_size(request: Request) -> int:
    size = request.headers.get("content-length", "")
    return int(size) if size.isdecimal() else 0


async def _take(request: Request, part: Part) -> None:
    """Write the body to the disk. Raises Refusal for what is no image, or too large; FileProblem."""
    head, done = b"", 0
    async for chunk in request.stream():
        if len(head) < _HEAD_BYTES:
            head = (head + chunk)[:_HEAD_BYTES]
            if len(head) == _HEAD_BYTES and kind_of(head) is None:
                break
        done += len(chunk)
        if done > MAX_IMAGE_BYTES:
            raise _too_large()
        await in_folder(part.write, chunk)
    if kind_of(head) is None:
        raise Refusal(415, f"What was sent is not an image. {_HOW}; allowed: {KINDS}.")


def _too_large() -> Refusal:
    return Refusal(413, f"The image is too large; allowed: up to {MAX_IMAGE_BYTES // 1_000_000} MB.")


def _waits_before_it_sends(request: Request, body: _Body) -> bool:
    """Whether the client still waits for a word before it sends its body, as curl does with a large one."""
    return not body.is_begun and request.headers.get("expect", "").lower() == "100-continue"


class _Body:
    """A body, of which it is known how much of it was read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_begun = False
        self.is_over = False

    async def receive(self) -> Message:
        self.is_begun = True
        message = await self._receive()
        self.is_over = not message.get("more_body", False)
        return message
