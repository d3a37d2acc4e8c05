"""Local images that an argument names: only from allowed folders, and only real images.

An agent can be talked into naming a private key as its "reference image", so a path must be inside SORA_IMAGE_DIRS
after resolving every link in it, and must be a regular file with the structure of a PNG, JPEG or WebP, or a HEIC or
AVIF, which is converted: the right first bytes alone could precede anything. Data after the picture's end is not sent.
Whether the picture can be decoded is not checked: that protects no one.

Between checking a path and opening it, another process may replace a folder by a link. So the path is opened part by
part below its allowed folder, without following links.

The ledger's files are not even opened: closing one would release the locks that this process has on it (POSIX).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from sora_mcp.core.advice import Message, Part, Setting
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.tasks import format_size
from sora_mcp.studio.image_files import MIME_TYPES, kind_of, orientation_of, size_of, trim

MAX_IMAGE_BYTES = 20_000_000
KINDS = "PNG, JPEG, WebP, HEIC or AVIF"


class Image(Struct, frozen=True):
    """An image to upload: a file name (not a path) and its bytes.

    `digest` is that of the original file: it identifies the image, however it was converted. `notes` say what was
    changed.
    """

    name: str
    content: bytes
    digest: str = ""
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def can_be_sent(self) -> bool:
        """Whether gateways take its kind."""
        return self.kind in MIME_TYPES

    @property
    def is_upright(self) -> bool:
        return orientation_of(self.content) == 1


def is_address(text: str) -> bool:
    """Whether `text` has a scheme (`https:`, `data:`, …), so that it is no path; `file:` is refused by `read`."""
    return re.match(r"(?!file:)[a-z][a-z0-9+.-]+:", text, re.IGNORECASE) is not None


UPLOAD_PREFIX = "upload:"
"""Prefix of the names of images that were sent from another machine."""


def is_upload(text: str) -> bool:
    """Whether `text` is the name of an uploaded image."""
    return re.fullmatch(rf"{UPLOAD_PREFIX}[0-9a-f]{{32}}", text) is not None


_SETTING = Setting("image_dirs")

IsLedgerFile = Callable[[Path | int], bool]
"""Return whether a path, or an open file, is one of the ledger's own files, whatever its name."""


def read(text: str, folders: tuple[Path, ...], argument: str, is_ledger_file: IsLedgerFile) -> Image:
    """Read the image at a path inside one of `folders`; a relative path is first tried in each of them.

    The ledger's files are not even opened. Raises InvalidInput naming `argument`.
    """
    if not folders:
        raise image_error(argument, "local images are not allowed here", ("an http(s) address, or set ", _SETTING))
    inside: tuple[Part, ...] = (f"files inside {', '.join(map(str, folders))} (setting ", _SETTING, ")")
    if text.lower().startswith("file:"):
        raise image_error(argument, "is a file: address", ("http(s) addresses, or as plain paths ", *inside))
    root, path = _allowed_path(text, folders, argument, inside)
    if is_ledger_file(path):
        raise _ledger_file_error(argument)
    return check(_read_regular(root, path, argument, is_ledger_file), argument)


def check(content: bytes, argument: str) -> Image:
    """Return an image from the bytes of its file. Raises InvalidInput naming `argument`."""
    if kind_of(content) is None:
        raise image_error(argument, "is not an image", KINDS)
    image = _trimmed(content)
    if image is None:
        raise image_error(argument, "begins like an image, but is incomplete", KINDS)
    return image


def _trimmed(content: bytes) -> Image | None:
    """Return the image without trailing data; None if it is not whole."""
    picture, kind = trim(content), kind_of(content)
    if picture is None:
        return None
    dropped = len(content) - len(picture)
    notes = (
        (f"{format_size(dropped)} after the end of the picture are not sent",) if dropped > MAX_UNREPORTED_BYTES else ()
    )
    return Image(f"image.{kind}", picture, hashlib.sha256(content).hexdigest(), notes)


MAX_UNREPORTED_BYTES = 1000
"""Bytes after a picture that are dropped without a note; a phone's video has more."""


def _ledger_file_error(argument: str) -> InvalidInput:
    return image_error(argument, "belongs to the ledger", KINDS)


def _allowed_path(text: str, folders: tuple[Path, ...], argument: str, inside: Message) -> tuple[Path, Path]:
    """Return the allowed folder, and the path in it, with every link resolved."""
    try:
        candidate = Path(text).expanduser()
        roots = [folder.resolve() for folder in folders]
        candidates = [path.resolve() for path in (*(root / candidate for root in roots), candidate)]
        allowed = [(root, path) for path in candidates for root in roots if path.is_relative_to(root)]
        if not allowed:
            raise image_error(argument, "lies outside the allowed folders", inside)
        return next(((root, path) for root, path in allowed if path.exists()), allowed[0])
    except (OSError, RuntimeError, ValueError):
        raise image_error(argument, "is not a path that can be read") from None


def _read_regular(root: Path, path: Path, argument: str, is_ledger_file: IsLedgerFile) -> bytes:
    try:
        descriptor = _open(root, path)
        if is_ledger_file(descriptor):  # it was put there meanwhile; left open, so that no lock is released
            raise _ledger_file_error(argument)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise image_error(argument, "is not a regular file")
            if status.st_size > MAX_IMAGE_BYTES:
                raise image_error(argument, "is too large", f"up to {MAX_IMAGE_BYTES // 1_000_000} MB")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_IMAGE_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        raise image_error(argument, "is not a file that can be read") from None


def _flag(name: str) -> int:
    """Return a flag of `os.open`; 0 if the platform does not have it."""
    return int(getattr(os, name, 0))


_FILE_FLAGS = os.O_RDONLY | _flag("O_NOFOLLOW") | _flag("O_NONBLOCK") | _flag("O_BINARY") | _flag("O_CLOEXEC")
_FOLDER_FLAGS = (_flag("O_PATH") or os.O_RDONLY) | _flag("O_NOFOLLOW") | _flag("O_DIRECTORY") | _flag("O_CLOEXEC")


def _open(root: Path, path: Path) -> int:
    """Open a file below `root` without following links, even new ones. Raises OSError."""
    parts = path.relative_to(root).parts
    if os.open not in os.supports_dir_fd:
        return _open_and_verify(path)
    folder = os.open(root, _FOLDER_FLAGS if parts else _FILE_FLAGS)
    for number, part in enumerate(parts, 1):
        parent = folder
        try:
            folder = os.open(part, _FILE_FLAGS if number == len(parts) else _FOLDER_FLAGS, dir_fd=parent)
        finally:
            os.close(parent)
    return folder


def _open_and_verify(path: Path) -> int:
    """Open a file (on Windows) and verify that its path still leads to it without a link."""
    descriptor = os.open(path, _FILE_FLAGS)
    if path.resolve() != path or not os.path.samestat(os.fstat(descriptor), path.stat()):
        os.close(descriptor)
        raise OSError("it was moved meanwhile")
    return descriptor


def check_fetched(content: bytes, argument: str) -> Image:
    """Return an image from fetched bytes. Raises InvalidInput naming `argument`."""
    image = _trimmed(content)
    if image is None:
        raise image_error(argument, "does not lead to a complete image", KINDS)
    return image


def check_sendable(image: Image, argument: str, max_bytes: int) -> None:
    """Raise InvalidInput for an image that is too large to send with a request: as a file, or decoded."""
    if len(image.content) > max_bytes:
        raise image_error(
            argument, f"is too large ({format_size(len(image.content))})", f"up to {max_bytes // 1_000_000} MB"
        )
    width, height = size_of(image.content)
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        allowed = f"up to {MAX_SIDE} pixels a side and {MAX_PIXELS // 1_000_000} million in all"
        raise image_error(argument, f"is a picture of {width}x{height} pixels", allowed)


MAX_SIDE = 8192
"""Pixels of the longest side of an image that is sent with a request."""
MAX_PIXELS = 50_000_000
"""Its pixels in all: a few kilobytes can decode to far more than a server's memory holds."""


def image_error(argument: str, problem: str, allowed: Message = "") -> InvalidInput:
    """Return the error for an image: its problem, and what is allowed."""
    return InvalidInput([Problem(argument, problem, allowed)])
