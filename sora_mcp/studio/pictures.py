"""The images of a request that are sent along with it: fetched or read, checked, and as they go into the form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.dialects.protocol import Picture
from sora_mcp.studio import images
from sora_mcp.studio.images import MIME_TYPES, Image
from sora_mcp.studio.sources import Resolved

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway


def check_local(ready: Resolved, max_bytes: int) -> None:
    """Raise InvalidInput for a local image that cannot be sent along."""
    for i, image in ready.images.items():
        images.check_sendable(image, _where(i), max_bytes)


async def pictures_of(
    gateway: Gateway, ready: Resolved, *, max_bytes: int, seconds: float, links: bool
) -> dict[int, Picture]:
    """Every image of a request, by item; with `links` only those that have no address. Raises InvalidInput, or
    Unfetchable where it may be had later."""
    pictures = {i: _as_sent(image) for i, image in ready.images.items()}
    if links:
        return pictures
    for i, item in enumerate(ready.request.inpaint_items):
        if i not in pictures and item.url is not None:
            content = await _fetched(gateway, item.url, _where(i), max_bytes, seconds)
            image = images.check_fetched(content, _where(i))
            images.check_sendable(image, _where(i), max_bytes)
            pictures[i] = _as_sent(image)
    return pictures


async def _fetched(gateway: Gateway, address: str, where: str, max_bytes: int, seconds: float) -> bytes:
    from sora_mcp.gateway.pictures import Unfetchable, fetch_picture  # noqa: PLC0415 - with it, all that speaks HTTP

    try:
        return await fetch_picture(gateway, address, max_bytes=max_bytes, seconds=seconds)
    except Unfetchable as error:
        if error.may_pass:
            raise
        raise InvalidInput([Problem(where, error.why, "the address of an image that everybody can open")]) from None


def _as_sent(image: Image) -> Picture:
    return Picture(image.name, image.content, MIME_TYPES[image.name.rpartition(".")[2]])


def _where(item: int) -> str:
    return f"inpaint_items[{item}].url"
