"""Local images that an argument names: only what the person allowed, and only what really is an image.

An agent can be talked into naming a private key as its "reference image", so a path must lie inside
SORA_IMAGE_DIRS after every link in it is followed, and must be a regular file built as a PNG, JPEG or
WebP is: its first bytes alone could stand before anything. Whether the picture inside can be decoded is
not looked at: that protects nobody, and would need Pillow.

Between a look at a path and its opening, somebody else may put a link in the place of a folder. So the path is opened
part by part below its allowed folder, and no link is followed any more.

The ledger's files are not even opened: to close one again gives back the locks that this process holds on it (POSIX).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sora_mcp.core.advice import Message, Part, Setting
from sora_mcp.core.errors import InvalidInput, Problem

MAX_IMAGE_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class Image:
    """An image to upload: a file name (not a path) and its bytes."""

    name: str
    content: bytes


def is_address(text: str) -> bool:
    """Whether `text` has a scheme (`https:`, `data:`, …), so that it is no path; `file:` is `read`'s to refuse."""
    return re.match(r"(?!file:)[a-z][a-z0-9+.-]+:", text, re.IGNORECASE) is not None


_SETTING = Setting("image_dirs")

IsLedgers = Callable[[Path | int], bool]
"""Whether a path, or an open file, is one of the ledger's own files, whatever its name."""


def read(text: str, folders: tuple[Path, ...], where: str, is_ledgers: IsLedgers) -> Image:
    """The image at a path inside one of `folders`; a relative path is looked for in each of them first.

    A file that `is_ledgers` is not even opened. Raises InvalidInput naming `where`.
    """
    if not folders:
        raise _refused(where, "local images are not allowed here", ("an http(s) address, or set ", _SETTING))
    inside: tuple[Part, ...] = (f"files inside {', '.join(map(str, folders))} (setting ", _SETTING, ")")
    if text.lower().startswith("file:"):
        raise _refused(where, "is a file: address", ("http(s) addresses, or as plain paths ", *inside))
    root, path = _allowed_path(text, folders, where, inside)
    if is_ledgers(path):
        raise _is_the_ledgers(where)
    content = _read_regular(root, path, where, is_ledgers)
    kind = _kind(content)
    if kind is None:
        raise _refused(where, "is not an image", "PNG, JPEG or WebP")
    if not _IS_WHOLE[kind](content):
        raise _refused(where, "begins as an image does, but is not a whole one", "PNG, JPEG or WebP")
    return Image(f"image.{kind}", content)


def _is_the_ledgers(where: str) -> InvalidInput:
    return _refused(where, "belongs to the ledger", "PNG, JPEG or WebP")


def _allowed_path(text: str, folders: tuple[Path, ...], where: str, inside: Message) -> tuple[Path, Path]:
    """The allowed folder, and the path in it; every link in them was followed."""
    try:
        candidate = Path(text).expanduser()
        roots = [folder.resolve() for folder in folders]
        meant = [path.resolve() for path in (*(root / candidate for root in roots), candidate)]
        allowed = [(root, path) for path in meant for root in roots if path.is_relative_to(root)]
        if not allowed:
            raise _refused(where, "lies outside the allowed folders", inside)
        return next(((root, path) for root, path in allowed if path.exists()), allowed[0])
    except (OSError, RuntimeError, ValueError):
        raise _refused(where, "is not a path that can be read") from None


def _read_regular(root: Path, path: Path, where: str, is_ledgers: IsLedgers) -> bytes:
    try:
        descriptor = _open(root, path)
        if is_ledgers(descriptor):  # it was put there meanwhile; it stays open, so that no lock is given back
            raise _is_the_ledgers(where)
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


def _flag(name: str) -> int:
    """A flag of `os.open`; none where the platform has no such."""
    return int(getattr(os, name, 0))


_FILE = os.O_RDONLY | _flag("O_NOFOLLOW") | _flag("O_NONBLOCK") | _flag("O_BINARY") | _flag("O_CLOEXEC")
_FOLDER = (_flag("O_PATH") or os.O_RDONLY) | _flag("O_NOFOLLOW") | _flag("O_DIRECTORY") | _flag("O_CLOEXEC")


def _open(root: Path, path: Path) -> int:
    """Open a file below `root` without following a link, wherever it stands by now. Raises OSError."""
    parts = path.relative_to(root).parts
    if os.open not in os.supports_dir_fd:
        return _open_and_look_again(path)
    folder = os.open(root, _FOLDER if parts else _FILE)
    for number, part in enumerate(parts, 1):
        parent = folder
        try:
            folder = os.open(part, _FILE if number == len(parts) else _FOLDER, dir_fd=parent)
        finally:
            os.close(parent)
    return folder


def _open_and_look_again(path: Path) -> int:
    """Open a file (on Windows) and make sure that its path still leads to it without a link."""
    descriptor = os.open(path, _FILE)
    if path.resolve() != path or not os.path.samestat(os.fstat(descriptor), path.stat()):
        os.close(descriptor)
        raise OSError("it was moved meanwhile")
    return descriptor


def check_fetched(content: bytes, where: str) -> Image:
    """An image that was fetched. Raises InvalidInput naming `where`."""
    kind = _kind(content)
    if kind is None or not _IS_WHOLE[kind](content):
        raise _refused(where, "does not lead to a whole image", "PNG, JPEG or WebP")
    return Image(f"image.{kind}", content)


def check_sendable(image: Image, where: str, max_bytes: int) -> None:
    """Raise InvalidInput for an image that is too large to be sent along with a request: as a file, or unpacked."""
    if len(image.content) > max_bytes:
        raise _refused(where, f"is too large ({len(image.content) / 1e6:.1f} MB)", f"up to {max_bytes // 1_000_000} MB")
    width, height = size_of(image.content)
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        allowed = f"up to {MAX_SIDE} pixels a side and {MAX_PIXELS // 1_000_000} million in all"
        raise _refused(where, f"is a picture of {width}x{height} pixels", allowed)


MAX_SIDE = 8192
"""Pixels of the longest side of an image that is sent along."""
MAX_PIXELS = 50_000_000
"""All its pixels: a few kilobytes can unpack to far more than a server's memory holds."""

MIME_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


def _kind(content: bytes) -> str | None:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"\xff\xd8\xff"):
        return "jpg"
    return "webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def _is_whole_png(content: bytes) -> bool:
    return content[8:16] == b"\0\0\0\rIHDR" and content[-12:-4] == b"\0\0\0\0IEND"


def _is_whole_webp(content: bytes) -> bool:
    padding = len(content) - 8 - int.from_bytes(content[4:8], "little")
    return content[12:16] in {b"VP8 ", b"VP8L", b"VP8X"} and padding in {0, 1}


def _is_whole_jpeg(content: bytes) -> bool:
    """Segments up to the frame header (SOF), and an end; phones write some data of their own behind that."""
    at = 2
    while content[at : at + 1] == b"\xff" and at + 4 <= len(content):
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            return b"\xff\xd9" in content[-4096:]
        fill = marker == 0xFF
        if not fill and (length < 2 or marker in {0xD9, 0xDA}):
            return False
        at += 1 if fill else 2 + length
    return False


_IS_WHOLE = {"png": _is_whole_png, "jpg": _is_whole_jpeg, "webp": _is_whole_webp}


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height in pixels that a whole image says it has: the largest, where it says several."""
    sizes = list(_SIZES[_kind(content) or "png"](content))
    return max((width for width, _ in sizes), default=0), max((height for _, height in sizes), default=0)


def _png_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Its size; sides of more than a million pixels are refused by libpng itself, before anything is unpacked."""
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    if max(width, height) <= 1_000_000:
        yield width, height


def _jpeg_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    at = 2
    while content[at : at + 1] == b"\xff" and at + 9 <= len(content):
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            yield int.from_bytes(content[at + 7 : at + 9], "big"), int.from_bytes(content[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + length
        if marker == 0xDA:
            return


def _webp_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Of the canvas, and of each picture in it (RFC 9649 §2.5 to §2.7): a decoder goes by any of them."""
    at = 12
    while at + 8 <= len(content):
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        data = content[at + 8 : at + 8 + min(length, 24)]
        if name == b"VP8X":
            yield int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
        elif name == b"ANMF":
            yield int.from_bytes(data[6:9], "little") + 1, int.from_bytes(data[9:12], "little") + 1
        elif name == b"VP8L":
            bits = int.from_bytes(data[1:5], "little")
            yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif name == b"VP8 ":
            yield int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
        at += 8 + length + length % 2


_SIZES = {"png": _png_sizes, "jpg": _jpeg_sizes, "webp": _webp_sizes}


def _refused(where: str, wrong: str, allowed: Message = "") -> InvalidInput:
    return InvalidInput([Problem(where, wrong, allowed)])
