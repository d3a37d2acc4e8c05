"""Conversion of images into upright ones that gateways accept, in a worker with a time and a memory limit.

The first half runs in the server; `main` is the worker, `python -m sora_mcp.media.converting`.
"""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, get_args

import anyio

from sora_mcp.media import child

if TYPE_CHECKING:
    from PIL import Image

TIMEOUT_S = 10.0
"""Seconds within which an image has to be converted, including the start of the worker."""
MEMORY_BYTES = 1_500_000_000
"""Memory (address space) of one worker."""
MAX_PIXELS = 120_000_000
"""Larger images are not decoded; phones take pictures of 108 million pixels."""

Reason = Literal["not_installed", "unreadable", "too_large", "too_many_bytes", "slow", "memory", "ended"]
"""Why an image was not converted."""

_QUALITIES = (95, 88, 75)
"""JPEG and WebP qualities (Pillow's); the first whose file is small enough is used."""
_DECODERS = {"heic": "pi_heif"}
"""Image types that Pillow needs another package to read."""


class Unconvertible(Exception):
    """An image that was not converted."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def is_installed(kind: str) -> bool:
    """Whether the packages that read this type of image are installed; nothing is loaded into this process."""
    return all(find_spec(package) is not None for package in ("PIL", _DECODERS.get(kind, "PIL")))


class Converter:
    """Converts images for one server, or for one of several owners who share it."""

    def __init__(self, slots: child.Slots) -> None:
        self._slots = slots

    async def upright(
        self, content: bytes, kind: str, *, max_bytes: int, seconds: float = TIMEOUT_S, memory_bytes: int = MEMORY_BYTES
    ) -> bytes:
        """Return the image, rotated as its EXIF data says, in at most `max_bytes`.

        A PNG or WebP keeps its type; anything else becomes a JPEG, or a PNG if it is partly transparent. The colour
        profile is kept, other metadata (such as place and time) is not.

        Raises Unconvertible.
        """
        if not is_installed(kind):
            raise Unconvertible("not_installed")
        request = {"kind": kind, "max_bytes": max_bytes, "seconds": seconds, "memory_bytes": memory_bytes}
        module = "sora_mcp.media.converting"
        async with self._slots.acquire():
            with anyio.move_on_after(seconds):
                answer = await child.run_worker(module, request, content, max_bytes=max_bytes + 1000)
                return _parse(answer)
        raise Unconvertible("slow")


def _parse(answer: bytes) -> bytes:
    head, _, picture = answer.partition(b"\n")
    try:
        reason = json.loads(head)["reason"]
    except (ValueError, TypeError, KeyError):
        reason = "ended"
    if reason in get_args(Reason):
        raise Unconvertible(reason)
    return picture


def main() -> None:
    """Convert the image that comes in on stdin."""
    request, content = child.read_request()
    try:
        child.send_answer({"reason": ""}, _convert(content, request["kind"], request["max_bytes"]))
    except Unconvertible as error:
        child.send_answer({"reason": error.reason}, b"")
    except (MemoryError, RuntimeError):
        child.send_answer({"reason": "memory"}, b"")
    except Exception:  # noqa: BLE001 - a decoder may raise anything for untrusted bytes
        child.send_answer({"reason": "unreadable"}, b"")


def register_heic() -> None:
    """Let Pillow read HEIC in this process. Raises ImportError."""
    from pi_heif import register_heif_opener  # noqa: PLC0415

    register_heif_opener()


def _convert(content: bytes, kind: str, max_bytes: int) -> bytes:
    try:
        from PIL import Image, ImageOps  # noqa: PLC0415

        if kind in _DECODERS:
            register_heic()
    except ImportError:
        raise Unconvertible("not_installed") from None
    Image.MAX_IMAGE_PIXELS = None  # checked below instead
    with Image.open(io.BytesIO(content)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Unconvertible("too_large")
        upright = ImageOps.exif_transpose(image)
        assert upright is not None
        return _encode(upright, kind, max_bytes)


def _encode(image: Image.Image, kind: str, max_bytes: int) -> bytes:
    profile = image.info.get("icc_profile")
    is_lossless = kind == "png" or image.has_transparency_data
    if kind == "webp":
        attempts = [("WEBP", quality) for quality in _QUALITIES]
    elif is_lossless:
        attempts = [("PNG", 0)]
    else:
        image = image if image.mode in {"L", "RGB", "CMYK"} else image.convert("RGB")
        attempts = [("JPEG", quality) for quality in _QUALITIES]
    for format_name, quality in attempts:
        buffer = io.BytesIO()
        image.save(buffer, format_name, quality=quality, icc_profile=profile)
        if buffer.tell() <= max_bytes:
            return buffer.getvalue()
    raise Unconvertible("too_many_bytes")


if __name__ == "__main__":
    main()
