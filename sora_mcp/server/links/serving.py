"""A video by a signed link, in ranges, as players ask for them."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import anyio
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.types import Scope, Send

from sora_mcp.core.errors import SoraError
from sora_mcp.gateway.folder import Silent, in_folder
from sora_mcp.server.links.answers import AGAIN, LinkVerifier, Refusal, link_of
from sora_mcp.server.links.signing import Link, Subject
from sora_mcp.server.shares import TRY_LATER, Share, ShareUsedUp

MOST_RANGES = 16
"""Ranges of one request; where more are asked for, the whole file is sent. Players ask for one."""

MOST_AT_ONCE = 32
"""Answers of one owner's links that are sent at the same time: each holds a connection and an open file."""

logger = logging.getLogger(__name__)

SavedFile = Callable[[str, str, int], Awaitable[Path | None]]
"""The file of an owner's video, by its id and variant; None where it is not saved. Raises SoraError."""


def subject_of(video_id: str, variant: int, about: os.stat_result) -> Subject:
    """What a link to a video is about: the variant, and the very file that lies there."""
    return (video_id, variant, about.st_size, about.st_mtime_ns)


class Videos:
    """Answers GET and HEAD of links to videos."""

    def __init__(self, verifier: LinkVerifier, saved_file: SavedFile) -> None:
        self._verifier = verifier
        self._saved_file = saved_file
        self._going = Share(MOST_AT_ONCE)

    async def answer(self, request: Request, send: Send) -> None:
        """Send the file, or the ranges of it that are asked for. Raises Refusal."""
        link = await link_of(request, self._verifier, "videos")
        try:
            with self._going.one_more(link.owner):
                await self._send(link, request, send)
        except ShareUsedUp:
            message = f"{MOST_AT_ONCE} downloads by your links are under way. Try again when some have ended."
            raise Refusal(429, message, TRY_LATER) from None

    async def _send(self, link: Link, request: Request, send: Send) -> None:
        video_id, variant = str(link.subject[0]), int(link.subject[1])
        try:
            path = await self._saved_file(link.owner, video_id, variant)
            saved = None if path is None else await _opened(path)
        except Silent:
            raise Refusal(503, "The folder of videos does not answer. The link is as good as it was.", AGAIN) from None
        except (SoraError, OSError) as error:
            why = error.message if isinstance(error, SoraError) else error.strerror
            logger.error("a link cannot be used: %s", why)  # noqa: TRY400 - the message says it all
            raise Refusal(503, "This server cannot look for the file now. Try again later.") from None
        if saved is None:
            raise _gone()
        try:
            if subject_of(video_id, variant, saved.about) != link.subject:
                raise _gone()
            response = _FileResponse(saved, link.name)
            await response(_with_usable_range(request.scope, saved.about.st_size), request.receive, send)
        except OSError as error:  # the client was told a length, and sees that it got less
            logger.error("a download is cut off: %s", error.strerror)  # noqa: TRY400 - likewise
        finally:
            with suppress(Silent), anyio.CancelScope(shield=True):
                await in_folder(saved.file.close)


def _gone() -> Refusal:
    return Refusal(404, "The file is not here any more. download_video saves the video again, if it can be had.")


class _Saved(Struct):
    """A file that is open, as `about` says. It is read in the threads of its folder."""

    path: Path
    file: BinaryIO
    about: os.stat_result

    async def seek(self, offset: int) -> None:
        self.file.seek(offset)

    async def read(self, most: int) -> bytes:
        """As any file's, as far as it was long when it was opened. Raises OSError."""
        return await in_folder(self._read, most)

    def _read(self, most: int) -> bytes:
        wanted = min(most, self.about.st_size - self.file.tell())
        part = self.file.read(wanted)
        if len(part) < wanted:
            raise OSError(errno.EIO, "the file is shorter than it was")
        return part


async def _opened(path: Path) -> _Saved | None:
    """The file of a path; None where none lies there. Raises OSError where it can't be read."""

    def opened() -> _Saved:
        file = path.open("rb")
        return _Saved(path, file, os.fstat(file.fileno()))

    try:
        return None if await in_folder(look_at, path) is None else await in_folder(opened)
    except FileNotFoundError:  # it was removed just now
        return None


class _FileResponse(FileResponse):
    """Sends a file that is open already: the one that was looked at, whatever has its name now."""

    def __init__(self, saved: _Saved, name: str) -> None:
        about, kind = saved.about, "video/mp4"
        super().__init__(
            saved.path, media_type=kind, filename=name, stat_result=about, content_disposition_type="inline"
        )
        self._saved = saved

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[Any]:
        """In the place of starlette's, which opens the path again; its early releases have no such step, and do so."""
        yield self._saved


def look_at(path: Path) -> os.stat_result | None:
    """What a file is; None where none lies there."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about if stat.S_ISREG(about.st_mode) else None


def _with_usable_range(scope: Scope, size: int) -> Scope:
    """The request without a Range that is to be ignored (RFC 9110 §14.2): of another unit, of a HEAD, of too many, one
    that can't be read; and without those of several that lie behind the end of a file of `size` bytes."""
    headers = [each for each in scope["headers"] if each[0] != b"range"]
    asked = next((value for name, value in scope["headers"] if name == b"range"), b"")
    ranges = _ranges(asked) if scope["method"] == "GET" else None
    if ranges:
        usable = [each for each in ranges if _is_in(each, size)] or ranges
        headers.append((b"range", b"bytes=" + b",".join(map(b"-".join, usable))))
    return {**scope, "headers": headers}


_Range = tuple[bytes, bytes]
"""The digits of its first and its last byte; without the first, those of how many bytes at the end."""


def _ranges(asked: bytes) -> list[_Range] | None:
    """What the value of the header asks for; None where it isn't understood, or is too much."""
    in_bytes = re.fullmatch(rb"\s*bytes\s*=(.*)", asked, re.IGNORECASE)
    parts = in_bytes[1].split(b",") if in_bytes else []
    read = [re.fullmatch(rb"([0-9]{0,99})-([0-9]{0,99})", part.strip()) for part in parts if part.strip()]
    if len(parts) > MOST_RANGES or not all(map(_is_range, read)):
        return None
    return [(each[1], each[2]) for each in read if each]


def _is_range(read: re.Match[bytes] | None) -> bool:
    if read is None or not (read[1] or read[2]):
        return False
    return not (read[1] and read[2]) or int(read[1]) <= int(read[2])


def _is_in(asked: _Range, size: int) -> bool:
    """Whether a file of so many bytes has some of the range."""
    first, last = asked
    return int(first) < size if first else int(last) > 0
