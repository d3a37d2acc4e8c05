"""The images of a request: as gateways take them, and those that are sent along with it as they go into the form."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from sora_mcp.core.advice import Message, Place
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.dialects.protocol import Picture
from sora_mcp.studio import images
from sora_mcp.studio.image_files import MIME_TYPES, kind_of
from sora_mcp.studio.images import MAX_IMAGE_BYTES, Image
from sora_mcp.studio.sources import Resolved

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway
    from sora_mcp.media.converting import Converter, Reason


CONVERT_WITHIN = 15.0
"""Seconds in which all images of a request are converted."""


async def upright(ready: Resolved, converter: Converter, max_bytes: int | None) -> Resolved:
    """The request with its local images as gateways take them; `max_bytes`: what one may have that is sent along.

    Raises InvalidInput, also where one cannot be sent along.
    """
    prepared = dict(ready.images)
    with anyio.move_on_after(CONVERT_WITHIN) as scope:
        for i, image in ready.images.items():
            prepared[i] = await _taken(converter, image, _where(i), max_bytes or MAX_IMAGE_BYTES)
    if scope.cancelled_caught:
        raise images.refused("inpaint_items", "has more images than can be converted in time", "PNG, JPEG or WebP")
    if max_bytes is not None:
        for i, image in prepared.items():
            images.check_sendable(image, _where(i), max_bytes)
    return replace(ready, images=prepared)


async def _taken(converter: Converter, image: Image, where: str, max_bytes: int) -> Image:
    """An image of a kind that gateways take, and turned as its EXIF data says: some show it as it is stored.

    Where that cannot be done here, one that only is to be turned is sent as it is. Raises InvalidInput.
    """
    if image.can_be_sent and image.is_upright:
        return image
    from sora_mcp.media.converting import Unconvertible  # noqa: PLC0415 - most images are taken as they are

    try:
        content = await converter.upright(image.content, image.kind, max_bytes=max_bytes)
    except Unconvertible as error:
        if image.can_be_sent and error.reason == "not_installed":
            return replace(image, notes=(*image.notes, _NOT_TURNED))
        raise images.refused(where, *_why_not(error.reason, image, max_bytes)) from None
    kind = kind_of(content)
    note = "is sent turned upright" if image.can_be_sent else f"is {image.kind.upper()} and is sent as {_NAMES[kind]}"
    return replace(image, name=f"image.{kind}", content=content, notes=(*image.notes, note))


_NOT_TURNED = "is stored turned and is sent so: the gateway may show it sideways; the extra `media` would turn it"
_NAMES = {"png": "PNG", "jpg": "JPEG", "webp": "WebP", None: "an image"}


def _why_not(reason: Reason, image: Image, max_bytes: int) -> tuple[str, Message]:
    """Why an image cannot be converted, and what can be sent instead."""
    name = _NAMES.get(image.kind, image.kind.upper())
    what, by_hand = (
        ("turned upright", "one that is stored upright")
        if image.can_be_sent
        else (f"converted from {name}", "PNG, JPEG or WebP; phones and image programs export JPEG")
    )
    words = {
        "unreadable": f"is damaged: it cannot be read as a {name} image",
        "too_large": f"has too many pixels to be {what} here",
        "too_many_bytes": f"would have more than {max_bytes // 1_000_000} MB when it is {what}",
        "slow": f"could not be {what} in time",
        "memory": f"takes too much memory to be {what}",
        "ended": f"could not be {what}: the process that does it ended unexpectedly",
    }
    if reason == "not_installed":
        packages = "pillow pi-heif" if image.kind == "heic" else "pillow"
        install = (Place(sys.executable, "python"), f" -m pip install {packages}")
        return f"is {name}, and what converts it is not installed", (f"{by_hand}. Or install it: ", *install)
    return words[reason], by_hand


async def pictures_of(
    gateway: Gateway, ready: Resolved, converter: Converter, *, max_bytes: int, seconds: float, links: bool
) -> dict[int, Picture]:
    """Every image of a request, by item; with `links` only those that have no address. Raises InvalidInput, or
    Unfetchable where it may be had later."""
    pictures = {i: _as_sent(image) for i, image in ready.images.items()}
    if links:
        return pictures
    for i, item in enumerate(ready.request.inpaint_items):
        if i not in pictures and item.url is not None:
            content = await _fetched(gateway, item.url, _where(i), max_bytes, seconds)
            image = await _taken(converter, images.check_fetched(content, _where(i)), _where(i), max_bytes)
            images.check_sendable(image, _where(i), max_bytes)
            pictures[i] = _as_sent(image)
    return pictures


async def _fetched(gateway: Gateway, address: str, where: str, max_bytes: int, seconds: float) -> bytes:
    from sora_mcp.gateway.pictures import Unfetchable, fetch_picture  # noqa: PLC0415 - with it, all that speaks HTTP

    try:
        return await fetch_picture(gateway, address, max_bytes=max_bytes, timeout_s=seconds)
    except Unfetchable as error:
        if error.is_transient:
            raise
        raise InvalidInput([Problem(where, error.reason, "the address of an image that everybody can open")]) from None


def _as_sent(image: Image) -> Picture:
    return Picture(image.name, image.content, MIME_TYPES[image.kind])


def _where(item: int) -> str:
    return f"inpaint_items[{item}].url"
