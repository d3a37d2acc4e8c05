"""Local images that an argument names: only what the person allowed, and only what really is an image.

An agent can be talked into naming a private key as its "reference image", so a path must lie inside
SORA_IMAGE_DIRS after every link in it is followed, and must be a regular file with the first bytes of
a PNG, JPEG or WebP.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from sora_mcp.errors import InvalidInput, Problem

MAX_IMAGE_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class Image:
    """An image to upload: a file name (not a path) and its bytes."""

    name: str
    content: bytes


def is_address(text: str) -> bool:
    """Whether `text` has a scheme (`https:`, `data:`, …), so that it is no path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text) is not None


def read(text: str, folders: tuple[Path, ...], where: str) -> Image:
    """The image at a path inside one of `folders`. Raises InvalidInput naming `where`."""
    if not folders:
        raise _refused(where, "local images are not allowed here", "an http(s) address, or set SORA_IMAGE_DIRS")
    try:
        path = Path(text).expanduser().resolve()
        roots = [folder.resolve() for folder in folders]
    except (OSError, RuntimeError, ValueError):
        raise _refused(where, "is not a path that can be read") from None
    if not any(path.is_relative_to(root) for root in roots):
        raise _refused(where, "lies outside the allowed folders", "files inside SORA_IMAGE_DIRS")
    content = _read_regular(path, where)
    kind = _kind(content)
    if kind is None:
        raise _refused(where, "is not an image", "PNG, JPEG or WebP")
    return Image(f"image.{kind}", content)


def _read_regular(path: Path, where: str) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise _refused(where, "is not a regular file")
            if about.st_size > MAX_IMAGE_BYTES:
                raise _refused(where, "is too large", f"up to {MAX_IMAGE_BYTES // 1_000_000} MB")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_IMAGE_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        raise _refused(where, "is not a file that can be read") from None


def _kind(content: bytes) -> str | None:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"\xff\xd8\xff"):
        return "jpg"
    return "webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def _refused(where: str, wrong: str, allowed: str = "") -> InvalidInput:
    return InvalidInput([Problem(where, wrong, allowed)])
