"""Upload of an image by a signed link: the body is the file, limited in bytes and time, and checked like local ones."""

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
from sora_mcp.gateway.folder import Silent, check_mounted, run_in_folder
from sora_mcp.server.bounds import drain
from sora_mcp.server.links.answers import UNAVAILABLE_HEADERS, LinkVerifier, Refusal, read_link
from sora_mcp.server.links.signing import Link
from sora_mcp.server.owner_limits import TOO_MANY_HEADERS, LimitReached, OwnerLimit
from sora_mcp.studio.image_files import kind_of
from sora_mcp.studio.images import KINDS, MAX_IMAGE_BYTES
from sora_mcp.studio.uploads import LinkUsed, Part, QuotaReached, Uploaded, Uploads

UPLOAD_TIMEOUT_S = 120.0
"""Seconds for a whole image to arrive."""
MAX_CONCURRENT_UPLOADS = 4
"""Images of one owner that are uploaded at the same time."""
_MAX_CONCURRENT_CHECKS = 2
"""Images that are in memory at the same time to be checked."""
_HEAD_BYTES = 256
"""Bytes at the beginning of a file that show its format."""
_UPLOAD_HINT = "Send the file itself as the body, as curl -T does"
_STORAGE_HINT = "Tell whoever runs this server, and send the image again once it is fixed."


class Images:
    """Answers PUT and POST of links for images. `is_shared`: the folder may be one that has to be mounted."""

    def __init__(self, verifier: LinkVerifier, folder: Path, *, is_shared: bool) -> None:
        self._verifier = verifier
        self._folder = folder
        self._is_shared = is_shared
        self._uploads = OwnerLimit(MAX_CONCURRENT_UPLOADS)
        self._refused = OwnerLimit(MAX_CONCURRENT_UPLOADS)
        self._checking = CapacityLimiter(_MAX_CONCURRENT_CHECKS)

    async def answer(self, request: Request, send: Send) -> None:
        """Store the image and respond with its name, or with the reason why not."""
        link = await read_link(request, self._verifier, "images")  # before the body is awaited
        response: Response
        body = _Body(request.receive)
        request = Request(request.scope, body.receive)
        try:
            response = _created(await self._receive_image(link, request))
        except ClientDisconnect:  # no one is left to read an answer
            return
        except Refusal as refusal:
            if not (body.is_complete or _expects_continue(request, body)):
                with suppress(LimitReached), self._refused.slot(link.owner):
                    await drain(request.receive)  # a client that is disconnected while it sends reads no answer
            response = refusal.response
        await response(request.scope, request.receive, send)

    async def _receive_image(self, link: Link, request: Request) -> Uploaded:
        _check_head(request)
        uploads = Uploads(self._folder, link.owner)
        with _as_refusals(), self._uploads.slot(link.owner):
            if self._is_shared:
                await run_in_folder(check_mounted, self._folder)
            part = await run_in_folder(uploads.begin, _declared_size(request))
            try:
                with anyio.fail_after(UPLOAD_TIMEOUT_S):
                    await _store_body(request, part)
                async with self._checking:
                    return await run_in_folder(uploads.store, part, str(link.subject[0]))
            finally:
                with suppress(Silent), anyio.CancelScope(shield=True):
                    await run_in_folder(part.discard)


def _created(uploaded: Uploaded) -> Response:
    next_step = f"Give {uploaded.name} as the url of the image. It is kept for a day, for you alone."
    content = {"url": uploaded.name, "kind": uploaded.kind, "bytes": uploaded.bytes, "next_step": next_step}
    return JSONResponse(content, status_code=201)


@contextmanager
def _as_refusals() -> Iterator[None]:
    """Turn errors into refusals."""
    try:
        yield
    except InvalidInput as error:
        raise Refusal(415, error.message) from None
    except LimitReached:
        message = (
            f"{MAX_CONCURRENT_UPLOADS} of your images are being received already. "
            "Send this one again when they have arrived."
        )
        raise Refusal(429, message, TOO_MANY_HEADERS) from None
    except QuotaReached as error:
        raise Refusal(429, str(error), {"Retry-After": f"{error.retry_after_s:.0f}"}) from None
    except LinkUsed:
        raise Refusal(409, "This link was already used for another image; each image needs its own link.") from None
    except Silent:
        raise Refusal(
            503,
            "The folder of images does not answer. Send the image again later with the same link.",
            UNAVAILABLE_HEADERS,
        ) from None
    except TimeoutError:
        raise Refusal(408, f"The image did not arrive within {UPLOAD_TIMEOUT_S:g} s. Send it again.") from None
    except FileProblem as error:
        raise Refusal(507, f"{error.message} {_STORAGE_HINT}") from None
    except OSError as error:
        message = f"The image cannot be saved: its folder cannot be used ({error.strerror}). {_STORAGE_HINT}"
        raise Refusal(507, message) from None


def _check_head(request: Request) -> None:
    """Raise Refusal if the headers say that the body is not an image, or too large."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in {"", "application/octet-stream"} and not media_type.startswith("image/"):
        raise Refusal(415, f"The Content-Type is not that of an image. {_UPLOAD_HINT}; allowed: {KINDS}.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, f"The body is compressed. {_UPLOAD_HINT}.")
    if "content-range" in request.headers:
        raise Refusal(400, f"An image has to be sent in one piece. {_UPLOAD_HINT}.")
    if _declared_size(request) > MAX_IMAGE_BYTES:
        raise _too_large()


def _declared_size(request: Request) -> int:
    size = request.headers.get("content-length", "")
    return int(size) if size.isdecimal() else 0


async def _store_body(request: Request, part: Part) -> None:
    """Write the body to the disk. Raise Refusal if it is not an image, or too large; FileProblem."""
    head, size = b"", 0
    async for chunk in request.stream():
        if len(head) < _HEAD_BYTES:
            head = (head + chunk)[:_HEAD_BYTES]
            if len(head) == _HEAD_BYTES and kind_of(head) is None:
                break
        size += len(chunk)
        if size > MAX_IMAGE_BYTES:
            raise _too_large()
        await run_in_folder(part.write, chunk)
    if kind_of(head) is None:
        raise Refusal(415, f"The body is not an image. {_UPLOAD_HINT}; allowed: {KINDS}.")


def _too_large() -> Refusal:
    return Refusal(413, f"The image is too large; allowed: up to {MAX_IMAGE_BYTES // 1_000_000} MB.")


def _expects_continue(request: Request, body: _Body) -> bool:
    """Return whether the client still awaits 100 Continue before it sends its body, as curl does with a large one."""
    return not body.is_started and request.headers.get("expect", "").lower() == "100-continue"


class _Body:
    """A body that tracks whether it was started and completed."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_started = False
        self.is_complete = False

    async def receive(self) -> Message:
        self.is_started = True
        message = await self._receive()
        self.is_complete = not message.get("more_body", False)
        return message
