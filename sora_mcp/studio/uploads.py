"""Images that people far away have sent: each lies in its owner's folder for a day, under a name made of its bytes.

The name, `upload:…`, stands for the image wherever a local path would; it leads nowhere for anybody else. The same
bytes have the same name, however often they are sent.
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
from sora_mcp.studio.images import MAX_IMAGE_BYTES, UPLOAD, Image, is_upload

KEPT_S = 86_400
"""Seconds for which an image is kept after it was last sent."""
MOST_IMAGES = 100
"""Images of one owner at a time."""
MOST_BYTES = 200_000_000
"""Bytes of all images of one owner at a time."""

MOST_SENT = 1000
"""Links by which one owner has sent images within a day: each leaves a file that says so."""

NOT_HERE = ("is no image that you have sent within a day", "send it again")
"""What is wrong with another name, and what is allowed."""
_SWEEP_EVERY_S = 600
_SENT = ".link"
"""What the names of files end with that mark a link as used."""


class QuotaReached(Exception):
    """The owner has as many images here as anybody may have. `retry_after_s`: until the oldest one is removed."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            f"You have as many images here as one person may have ({MOST_IMAGES}, or {MOST_BYTES // 1_000_000} MB), or "
            f"have sent as many in a day ({MOST_SENT}). Each is removed a day after it was sent."
        )
        self.retry_after_s = retry_after_s


class LinkUsed(Exception):
    """Another image came by this link before."""


class Uploaded(Struct, frozen=True):
    """An image that was sent: the name that stands for it, its kind, and the bytes of its file."""

    name: str
    kind: str
    bytes: int


class Uploads:
    """The images of one owner, below `folder` (see `common_folder`). What touches the disk raises FileProblem."""

    def __init__(self, folder: Path, owner: str, clock: Callable[[], float] = time.time) -> None:
        self._all = folder / "uploads"
        self._folder = self._all / owner_folder(owner)
        self._clock = clock

    def knows(self, name: str) -> bool:
        """Whether the image of this name is here."""
        return self._path(name) is not None

    def read(self, name: str, where: str) -> Image:
        """The image of a name. Raises InvalidInput, naming `where`, where it is not, or no longer, here."""
        path = self._path(name)
        try:
            if path is not None:
                return images.check(path.read_bytes(), where)
        except OSError:  # it was removed just now
            pass
        raise images.refused(where, *NOT_HERE)

    def _path(self, name: str) -> Path | None:
        path = self._folder / name.removeprefix(UPLOAD) if is_upload(name) else None
        with suppress(OSError):
            if path is not None and self._clock() - path.stat().st_mtime < KEPT_S:
                return path
        return None

    def begin(self, size: int) -> Part:
        """A file for an image of `size` bytes, as far as that is known. Raises QuotaReached or FileProblem."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sweep()
            self._check_quota(size)
            path = self._folder / f"{secrets.token_hex(8)}.part"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            return Part(path, os.fdopen(descriptor, "w+b"))
        except OSError as error:
            raise _cannot_keep(error) from None

    def keep(self, part: Part, link_id: str) -> Uploaded:
        """Check what has come and give it its name; `link_id` is that of the link by which it came.

        The same image may come by a link again. Raises InvalidInput, QuotaReached, LinkUsed or FileProblem.
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
            raise _cannot_keep(error) from None
        return Uploaded(f"{UPLOAD}{digest}", image.kind, len(content))

    def _bind(self, link_id: str, digest: str) -> None:
        """Have a link stand for one image from now on. Raises LinkUsed where it stands for another."""
        marker = self._folder / f"{hashlib.sha256(link_id.encode()).hexdigest()[:32]}{_SENT}"
        whole = self._folder / f"{secrets.token_hex(8)}.part"
        try:
            whole.write_text(digest, encoding="ascii")
            with suppress(FileExistsError):
                put_in_place(whole, marker)  # never there in part: the same image may come several times at once
            if marker.read_text(encoding="ascii") != digest:
                raise LinkUsed
        finally:
            whole.unlink(missing_ok=True)

    def _check_quota(self, size: int) -> None:
        """Raise QuotaReached where another image of `size` bytes is one too many."""
        files = list(_files(self._folder))
        kept = [about for path, about in files if not path.suffix]
        sent = [about for path, about in files if path.suffix == _SENT]
        is_full = len(kept) >= MOST_IMAGES or sum(about.st_size for _, about in files) + size > MOST_BYTES
        if not is_full and len(sent) < MOST_SENT:
            return
        oldest = min((about.st_mtime for about in (kept if is_full else sent)), default=self._clock())
        raise QuotaReached(max(1.0, oldest + KEPT_S - self._clock()))

    def _sweep(self) -> None:
        """Remove what is older than a day, of all owners, every now and then."""
        marker = self._all / "swept"
        now = self._clock()
        with suppress(FileNotFoundError):
            if 0 <= now - marker.stat().st_mtime < _SWEEP_EVERY_S:
                return
        marker.touch()
        os.utime(marker, (now, now))
        for folder in self._all.iterdir():
            for path, about in _files(folder) if folder.is_dir() else ():
                if now - about.st_mtime >= KEPT_S:
                    with suppress(OSError):
                        path.unlink()


class Part(Struct, frozen=True):
    """An image on its way in."""

    path: Path
    file: BinaryIO

    def write(self, chunk: bytes) -> None:
        """Add bytes to its end. Raises FileProblem."""
        try:
            self.file.write(chunk)
        except OSError as error:
            raise _cannot_keep(error) from None

    def discard(self) -> None:
        """Close it, and remove it where it was not kept."""
        with suppress(OSError):  # what is still to be written finds no room
            self.file.close()
        self.path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.iterdir():
        with suppress(OSError):
            yield path, path.stat()


def _cannot_keep(error: OSError) -> FileProblem:
    return FileProblem(f"The image cannot be kept here: {error.strerror or 'the disk refuses'}.")
