"""The images of a request: converted for gateways, and as parts of the form if they are sent with the request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from sora_mcp.core.advice import LocalText, Message
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.dialects.protocol import Picture
from sora_mcp.studio import images
from sora_mcp.studio.image_files import MIME_TYPES, kind_of
from sora_mcp.studio.images import MAX_IMAGE_BYTES, Image
from sora_mcp.studio.sources import Resolved

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway
    from sora_mcp.media.converting import Converter, Reason


CONVERT_TIMEOUT_S = 15.0
"""Seconds in which all images of a request have to be converted."""


async def convert_images(ready: Resolved, converter: Converter, max_bytes: int | None) -> Resolved:
    """Return the request with its local images converted for gateways; `max_bytes`: of an image sent with the request.

    Raises InvalidInput, also if one cannot be sent with the request.
    """
    prepared = dict(ready.images)
    with anyio.move_on_after(CONVERT_TIMEOUT_S) as scope:
        for i, image in ready.images.items():
            prepared[i] = await _converted(converter, image, _argument(i), max_bytes or MAX_IMAGE_BYTES)
    if scope.cancelled_caught:
        raise images.image_error("inpaint_items", "has more images than can be converted in time", "PNG, JPEG or WebP")
    if max_bytes is not None:
        for i, image in prepared.items():
            images.check_sendable(image, _argument(i), max_bytes)
    return replace(ready, images=prepared)


async def _converted(converter: Converter, image: Image, argument: str, max_bytes: int) -> Image:
    """Return an image of a kind that gateways take, turned as its EXIF data says: some show it as it is stored.

    If Pillow is missing, one that only needs turning is sent as it is. Raises InvalidInput.
    """
    if image.can_be_sent and image.is_upright:
        return image
    from sora_mcp.media.converting import Unconvertible  # noqa: PLC0415 - most images need no conversion

    try:
        content = await converter.upright(image.content, image.kind, max_bytes=max_bytes)
    except Unconvertible as error:
        if image.can_be_sent and error.reason == "not_installed":
            return replace(image, notes=(*image.notes, _NOT_TURNED))
        raise images.image_error(argument, *_unconvertible_reason(error.reason, image, max_bytes)) from None
    kind = kind_of(content)
    note = "is sent rotated upright" if image.can_be_sent else f"is {image.kind.upper()} and is sent as {_NAMES[kind]}"
    return replace(image, name=f"image.{kind}", content=content, notes=(*image.notes, note))


_NOT_TURNED = (
    "is stored rotated and is sent that way: the gateway may show it sideways; the extra `media` would rotate it"
)
_NAMES = {"png": "PNG", "jpg": "JPEG", "webp": "WebP", None: "an image"}


def _unconvertible_reason(reason: Reason, image: Image, max_bytes: int) -> tuple[str, Message]:
    """Return why an image cannot be converted, and what can be sent instead."""
    name = _NAMES.get(image.kind, image.kind.upper())
    action, alternative = (
        ("rotated upright", "one that is stored upright")
        if image.can_be_sent
        else (f"converted from {name}", "PNG, JPEG or WebP; phones and image programs export JPEG")
    )
    reasons = {
        "unreadable": f"is damaged: it cannot be read as a {name} image",
        "too_large": f"has too many pixels to be {action} here",
        "too_many_bytes": f"would be larger than {max_bytes // 1_000_000} MB once it is {action}",
        "slow": f"could not be {action} in time",
        "memory": f"takes too much memory to be {action}",
        "ended": f"could not be {action}: the process that does it ended unexpectedly",
    }
    if reason == "not_installed":
        packages = "pillow pi-heif" if image.kind == "heic" else "pillow"
        install = (LocalText(sys.executable, "python"), f" -m pip install {packages}")
        return f"is {name}, and the converter for it is not installed", (f"{alternative}. Or install it: ", *install)
    return reasons[reason], alternative


async def load_pictures(
    gateway: Gateway, ready: Resolved, converter: Converter, *, max_bytes: int, timeout_s: float, links: bool
) -> dict[int, Picture]:
    """Return every image of a request, by item; with `links` only those without an address. Raises InvalidInput, or
    Unfetchable if a later attempt may succeed."""
    pictures = {i: _to_picture(image) for i, image in ready.images.items()}
    if links:
        return pictures
    for i, item in enumerate(ready.request.inpaint_items):
        if i not in pictures and item.url is not None:
            content = await _fetch(gateway, item.url, _argument(i), max_bytes, timeout_s)
            image = await _converted(converter, images.check_fetched(content, _argument(i)), _argument(i), max_bytes)
            images.check_sendable(image, _argument(i), max_bytes)
            pictures[i] = _to_picture(image)
    return pictures


async def _fetch(gateway: Gateway, address: str, argument: str, max_bytes: int, timeout_s: float) -> bytes:
    from sora_mcp.gateway.pictures import Unfetchable, fetch_picture  # noqa: PLC0415 - with it, all that speaks HTTP

    try:
        return await fetch_picture(gateway, address, max_bytes=max_bytes, timeout_s=timeout_s)
    except Unfetchable as error:
        if error.is_transient:
            raise
        raise InvalidInput([Problem(argument, error.reason, "the address of an image that anyone can open")]) from None


def _to_picture(image: Image) -> Picture:
    return Picture(image.name, image.content, MIME_TYPES[image.kind])


def _argument(item: int) -> str:
    return f"inpaint_items[{item}].url"
