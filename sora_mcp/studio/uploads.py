"""Images that remote clients have sent: each is in its owner's folder for a day, under a name derived from its bytes.

The name, `upload:…`, can be used wherever a local path can; it does not work for other owners. The same bytes have the
same name, however often they are sent.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from sora_mcp.core.errors import FileProblem
from sora_mcp.core.owners import owner_folder
from sora_mcp.gateway.folder import put_in_place
from sora_mcp.studio import images
from sora_mcp.studio.images import MAX_IMAGE_BYTES, UPLOAD_PREFIX, Image, is_upload

UPLOAD_TTL_S = 86_400
"""Seconds for which an image is stored after it was last sent."""
MAX_IMAGES = 100
"""Images that one owner may have stored."""
MAX_BYTES = 200_000_000
"""Bytes of all images that one owner may have stored."""

MAX_LINKS = 1000
"""Links by which one owner may send images within a day: each leaves a marker file."""

UNKNOWN_UPLOAD = ("is not an image that you have sent in the last day", "send it again")
"""The problem with an unknown name, and what is allowed."""
_SWEEP_INTERVAL_S = 600
_LINK_SUFFIX = ".link"
"""Suffix of the files that mark a link as used."""


class QuotaReached(Exception):
    """The owner has reached a limit. `retry_after_s`: seconds until the oldest image or marker is removed."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            f"You have as many images here as one person may have ({MAX_IMAGES}, or {MAX_BYTES // 1_000_000} MB), or "
            f"have sent as many in a day ({MAX_LINKS}). Each is removed a day after it was sent."
        )
        self.retry_after_s = retry_after_s


class LinkUsed(Exception):
    """Another image was sent by this link before."""


class Uploaded(Struct, frozen=True):
    """A stored image: its name, its kind, and the size of its file in bytes."""

    name: str
    kind: str
    bytes: int


class Uploads:
    """The images of one owner, below `folder` (see `common_folder`). Disk errors raise FileProblem."""

    def __init__(self, folder: Path, owner: str, clock: Callable[[], float] = time.time) -> None:
        self._root = folder / "uploads"
        self._folder = self._root / owner_folder(owner)
        self._clock = clock

    def has(self, name: str) -> bool:
        """Whether the image of this name is stored."""
        return self._path(name) is not None

    def read(self, name: str, argument: str) -> Image:
        """Return the image of a name. Raises InvalidInput naming `argument` if it is not, or no longer, stored."""
        path = self._path(name)
        try:
            if path is not None:
                return images.check(path.read_bytes(), argument)
        except OSError:  # it was removed just now
            pass
        raise images.image_error(argument, *UNKNOWN_UPLOAD)

    def _path(self, name: str) -> Path | None:
        path = self._folder / name.removeprefix(UPLOAD_PREFIX) if is_upload(name) else None
        with suppress(OSError):
            if path is not None and self._clock() - path.stat().st_mtime < UPLOAD_TTL_S:
                return path
        return None

    def begin(self, size: int) -> Part:
        """Create a file for an image of `size` bytes (0 if unknown). Raises QuotaReached or FileProblem."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sweep()
            self._check_quota(size)
            path = self._folder / f"{secrets.token_hex(8)}.part"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            return Part(path, os.fdopen(descriptor, "w+b"))
        except OSError as error:
            raise _storage_problem(error) from None

    def store(self, part: Part, link_id: str) -> Uploaded:
        """Check a received image and give it its name; `link_id` is that of the link by which it was sent.

        The same image may be sent by a link again. Raises InvalidInput, QuotaReached, LinkUsed or FileProblem.
        """
        try:
            part.file.seek(0)
            content = part.file.read(MAX_IMAGE_BYTES)
            image = images.check(content, "The image")
            digest = image.digest[:32]
            target = self._folder / digest
            if not target.exists():
                self._check_quota(0)
            self._bind(link_id, digest)
            part.path.replace(target)
        except OSError as error:
            raise _storage_problem(error) from None
        return Uploaded(f"{UPLOAD_PREFIX}{digest}", image.kind, len(content))

    def _bind(self, link_id: str, digest: str) -> None:
        """Bind a link to one image. Raises LinkUsed if it is bound to another."""
        marker = self._folder / f"{hashlib.sha256(link_id.encode()).hexdigest()[:32]}{_LINK_SUFFIX}"
        temporary = self._folder / f"{secrets.token_hex(8)}.part"
        try:
            temporary.write_text(digest, encoding="ascii")
            with suppress(FileExistsError):
                put_in_place(temporary, marker)  # atomic: the same image may arrive several times concurrently
            if marker.read_text(encoding="ascii") != digest:
                raise LinkUsed
        finally:
            temporary.unlink(missing_ok=True)

    def _check_quota(self, size: int) -> None:
        """Raise QuotaReached if another image of `size` bytes would exceed a limit."""
        files = list(_files(self._folder))
        image_stats = [status for path, status in files if not path.suffix]
        link_stats = [status for path, status in files if path.suffix == _LINK_SUFFIX]
        is_full = len(image_stats) >= MAX_IMAGES or sum(status.st_size for _, status in files) + size > MAX_BYTES
        if not is_full and len(link_stats) < MAX_LINKS:
            return
        oldest = min((status.st_mtime for status in (image_stats if is_full else link_stats)), default=self._clock())
        raise QuotaReached(max(1.0, oldest + UPLOAD_TTL_S - self._clock()))

    def _sweep(self) -> None:
        """Remove files older than a day, of all owners, at most every _SWEEP_INTERVAL_S seconds."""
        marker = self._root / "swept"
        now = self._clock()
        with suppress(FileNotFoundError):
            if 0 <= now - marker.stat().st_mtime < _SWEEP_INTERVAL_S:
                return
        marker.touch()
        os.utime(marker, (now, now))
        for folder in self._root.iterdir():
            for path, status in _files(folder) if folder.is_dir() else ():
                if now - status.st_mtime >= UPLOAD_TTL_S:
                    with suppress(OSError):
                        path.unlink()


class Part(Struct, frozen=True):
    """An image that is being received."""

    path: Path
    file: BinaryIO

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises FileProblem."""
        try:
            self.file.write(chunk)
        except OSError as error:
            raise _storage_problem(error) from None

    def discard(self) -> None:
        """Close it, and remove it if it was not stored."""
        with suppress(OSError):  # no room for buffered data
            self.file.close()
        self.path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.iterdir():
        with suppress(OSError):
            yield path, path.stat()


def _storage_problem(error: OSError) -> FileProblem:
    return FileProblem(f"The image cannot be saved: {error.strerror or 'the disk refuses'}.")
