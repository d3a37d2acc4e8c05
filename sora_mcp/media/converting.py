"""Images made into ones that gateways take, upright: in a process of its own, within a time and a memory.

The first half is for the server; `main` is the process, `python -m sora_mcp.media.converting`.
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

WITHIN = 10.0
"""Seconds in which an image is converted, the start of a process for it included, or not at all."""
MEMORY_BYTES = 1_500_000_000
"""Memory (address space) of one such process."""
MAX_PIXELS = 120_000_000
"""The most pixels that are unpacked: phones take pictures of 108 million."""

Reason = Literal["not_installed", "unreadable", "too_large", "too_many_bytes", "slow", "memory", "ended"]
"""Why an image was not converted."""

_QUALITIES = (95, 88, 75)
"""Qualities of a JPEG (Pillow's); the first whose file is small enough is taken."""
_NEEDS = {"heic": "pi_heif"}
"""Kinds that Pillow reads with another package."""


class Unconvertible(Exception):
    """An image that was not converted."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def is_installed(kind: str) -> bool:
    """Whether what reads a kind of image is installed; nothing is loaded into this process."""
    return all(find_spec(name) is not None for name in ("PIL", _NEEDS.get(kind, "PIL")))


class Converter:
    """Converts images for one server, or for one of several people who share it."""

    def __init__(self, turns: child.Turns) -> None:
        self._turns = turns

    async def upright(
        self, content: bytes, kind: str, *, max_bytes: int, seconds: float = WITHIN, memory_bytes: int = MEMORY_BYTES
    ) -> bytes:
        """An image turned as its EXIF data says.

        A PNG or a WebP stays one, any other becomes a JPEG, or a PNG where it is partly transparent. Its colour profile
        is kept, the rest of its data (a place, a time) is not.

        Raises Unconvertible; the result has at most `max_bytes`.
        """
        if not is_installed(kind):
            raise Unconvertible("not_installed")
        asked = {"kind": kind, "max_bytes": max_bytes, "seconds": seconds, "memory_bytes": memory_bytes}
        module = "sora_mcp.media.converting"
        async with self._turns.take():
            with anyio.move_on_after(seconds):
                answer = await child.answer_of(module, asked, content, most_bytes=max_bytes + 1000)
                return _read(answer)
        raise Unconvertible("slow")


def _read(answer: bytes) -> bytes:
    head, _, picture = answer.partition(b"\n")
    try:
        reason = json.loads(head)["reason"]
    except (ValueError, TypeError, KeyError):
        reason = "ended"
    if reason in get_args(Reason):
        raise Unconvertible(reason)
    return picture


def main() -> None:
    """Convert the image that is asked for on stdin."""
    asked, content = child.question()
    try:
        child.answer({"reason": ""}, _converted(content, asked["kind"], asked["max_bytes"]))
    except Unconvertible as error:
        child.answer({"reason": error.reason}, b"")
    except (MemoryError, RuntimeError):
        child.answer({"reason": "memory"}, b"")
    except Exception:  # noqa: BLE001 - whatever a decoder makes of bytes from outside
        child.answer({"reason": "unreadable"}, b"")


def read_heic_too() -> None:
    """Have Pillow read HEIC in this process from now on. Raises ImportError."""
    from pi_heif import register_heif_opener  # noqa: PLC0415

    register_heif_opener()


def _converted(content: bytes, kind: str, max_bytes: int) -> bytes:
    try:
        from PIL import Image, ImageOps  # noqa: PLC0415

        if kind in _NEEDS:
            read_heic_too()
    except ImportError:
        raise Unconvertible("not_installed") from None
    Image.MAX_IMAGE_PIXELS = None  # looked at here
    with Image.open(io.BytesIO(content)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Unconvertible("too_large")
        upright = ImageOps.exif_transpose(image)
        assert upright is not None
        return _encoded(upright, kind, max_bytes)


def _encoded(image: Image.Image, kind: str, max_bytes: int) -> bytes:
    profile = image.info.get("icc_profile")
    is_lossless = kind == "png" or image.has_transparency_data
    if kind == "webp":
        attempts = [("WEBP", quality) for quality in _QUALITIES]
    elif is_lossless:
        attempts = [("PNG", 0)]
    else:
        image = image if image.mode in {"L", "RGB", "CMYK"} else image.convert("RGB")
        attempts = [("JPEG", quality) for quality in _QUALITIES]
    for name, quality in attempts:
        buffer = io.BytesIO()
        image.save(buffer, name, quality=quality, icc_profile=profile)
        if buffer.tell() <= max_bytes:
            return buffer.getvalue()
    raise Unconvertible("too_many_bytes")


if __name__ == "__main__":
    main()
