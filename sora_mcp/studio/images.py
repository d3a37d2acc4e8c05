"""Local images that an argument names: only what the person allowed, and only what really is an image.

An agent can be talked into naming a private key as its "reference image", so a path must lie inside
SORA_IMAGE_DIRS after every link in it is followed, and must be a regular file built as a PNG, JPEG or
WebP is, or a HEIC or AVIF, which is converted: its first bytes alone could stand before anything. What stands
behind the picture's end is not sent. Whether the picture inside can be decoded is not looked at: that protects nobody.

Between a look at a path and its opening, somebody else may put a link in the place of a folder. So the path is opened
part by part below its allowed folder, and no link is followed any more.

The ledger's files are not even opened: to close one again gives back the locks that this process holds on it (POSIX).
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
from sora_mcp.core.tasks import size_in_words
from sora_mcp.studio.image_files import MIME_TYPES, kind_of, orientation_of, size_of, whole

MAX_IMAGE_BYTES = 20_000_000
KINDS = "PNG, JPEG, WebP, HEIC or AVIF"


class Image(Struct, frozen=True):
    """An image to upload: a file name (not a path) and its bytes.

    `digest` is that of the file as it stands on the disk: what the image is known again by, whatever was made of it.
    `notes` say what was made of it.
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
    """Whether `text` has a scheme (`https:`, `data:`, …), so that it is no path; `file:` is `read`'s to refuse."""
    return re.match(r"(?!file:)[a-z][a-z0-9+.-]+:", text, re.IGNORECASE) is not None


UPLOAD = "upload:"
"""How the names of images begin that somebody sent from another machine."""


def is_upload(text: str) -> bool:
    """Whether `text` is such a name."""
    return re.fullmatch(rf"{UPLOAD}[0-9a-f]{{32}}", text) is not None


_SETTING = Setting("image_dirs")

IsLedgers = Callable[[Path | int], bool]
"""Whether a path, or an open file, is one of the ledger's own files, whatever its name."""


def read(text: str, folders: tuple[Path, ...], where: str, is_ledgers: IsLedgers) -> Image:
    """The image at a path inside one of `folders`; a relative path is looked for in each of them first.

    A file that `is_ledgers` is not even opened. Raises InvalidInput naming `where`.
    """
    if not folders:
        raise refused(where, "local images are not allowed here", ("an http(s) address, or set ", _SETTING))
    inside: tuple[Part, ...] = (f"files inside {', '.join(map(str, folders))} (setting ", _SETTING, ")")
    if text.lower().startswith("file:"):
        raise refused(where, "is a file: address", ("http(s) addresses, or as plain paths ", *inside))
    root, path = _allowed_path(text, folders, where, inside)
    if is_ledgers(path):
        raise _is_the_ledgers(where)
    return check(_read_regular(root, path, where, is_ledgers), where)


def check(content: bytes, where: str) -> Image:
    """An image of the bytes of its file. Raises InvalidInput naming `where`."""
    if kind_of(content) is None:
        raise refused(where, "is not an image", KINDS)
    image = _up_to_its_end(content)
    if image is None:
        raise refused(where, "begins as an image does, but is not a whole one", KINDS)
    return image


def _up_to_its_end(content: bytes) -> Image | None:
    """The image, without what stands behind it; None where it is not whole."""
    picture, kind = whole(content), kind_of(content)
    if picture is None:
        return None
    left_out = len(content) - len(picture)
    notes = (f"{size_in_words(left_out)} behind the end of the picture are not sent",) if left_out > MOST_UNTOLD else ()
    return Image(f"image.{kind}", picture, hashlib.sha256(content).hexdigest(), notes)


MOST_UNTOLD = 1000
"""Bytes behind a picture of which nothing is said; a phone's film has more."""


def _is_the_ledgers(where: str) -> InvalidInput:
    return refused(where, "belongs to the ledger", KINDS)


def _allowed_path(text: str, folders: tuple[Path, ...], where: str, inside: Message) -> tuple[Path, Path]:
    """The allowed folder, and the path in it; every link in them was followed."""
    try:
        candidate = Path(text).expanduser()
        roots = [folder.resolve() for folder in folders]
        meant = [path.resolve() for path in (*(root / candidate for root in roots), candidate)]
        allowed = [(root, path) for path in meant for root in roots if path.is_relative_to(root)]
        if not allowed:
            raise refused(where, "lies outside the allowed folders", inside)
        return next(((root, path) for root, path in allowed if path.exists()), allowed[0])
    except (OSError, RuntimeError, ValueError):
        raise refused(where, "is not a path that can be read") from None


def _read_regular(root: Path, path: Path, where: str, is_ledgers: IsLedgers) -> bytes:
    try:
        descriptor = _open(root, path)
        if is_ledgers(descriptor):  # it was put there meanwhile; it stays open, so that no lock is given back
            raise _is_the_ledgers(where)
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise refused(where, "is not a regular file")
            if about.st_size > MAX_IMAGE_BYTES:
                raise refused(where, "is too large", f"up to {MAX_IMAGE_BYTES // 1_000_000} MB")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_IMAGE_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        raise refused(where, "is not a file that can be read") from None


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
    image = _up_to_its_end(content)
    if image is None:
        raise refused(where, "does not lead to a whole image", KINDS)
    return image


def check_sendable(image: Image, where: str, max_bytes: int) -> None:
    """Raise InvalidInput for an image that is too large to be sent along with a request: as a file, or unpacked."""
    if len(image.content) > max_bytes:
        raise refused(
            where, f"is too large ({size_in_words(len(image.content))})", f"up to {max_bytes // 1_000_000} MB"
        )
    width, height = size_of(image.content)
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        allowed = f"up to {MAX_SIDE} pixels a side and {MAX_PIXELS // 1_000_000} million in all"
        raise refused(where, f"is a picture of {width}x{height} pixels", allowed)


MAX_SIDE = 8192
"""Pixels of the longest side of an image that is sent along."""
MAX_PIXELS = 50_000_000
"""All its pixels: a few kilobytes can unpack to far more than a server's memory holds."""


def refused(where: str, wrong: str, allowed: Message = "") -> InvalidInput:
    """What is wrong with an image, and what is allowed."""
    return InvalidInput([Problem(where, wrong, allowed)])
