"""Download of a video by a signed link, in ranges, as players ask for them."""

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
from sora_mcp.gateway.folder import Silent, check_mounted, run_in_folder
from sora_mcp.server.links.answers import UNAVAILABLE_HEADERS, LinkVerifier, Refusal, read_link
from sora_mcp.server.links.signing import Link, Subject
from sora_mcp.server.owner_limits import TOO_MANY_HEADERS, LimitReached, OwnerLimit

MAX_RANGES = 16
"""Ranges of one request; if there are more, the whole file is sent. Players ask for one."""

MAX_CONCURRENT_DOWNLOADS = 32
"""Downloads by one owner's links at the same time: each holds a connection and an open file."""

logger = logging.getLogger(__name__)

SavedFile = Callable[[str, str, int], Awaitable[Path | None]]
"""Returns the file of an owner's video, by its id and variant; None if it is not saved. Raises SoraError."""


def video_subject(video_id: str, variant: int, stat_result: os.stat_result) -> Subject:
    """Return the subject of a link to a video: the variant, and the exact file that is stored."""
    return (video_id, variant, stat_result.st_size, stat_result.st_mtime_ns)


class Videos:
    """Answers GET and HEAD of links to videos. `shared_folder`: a folder that has to be mounted, if there is one."""

    def __init__(self, verifier: LinkVerifier, saved_file: SavedFile, shared_folder: Path | None) -> None:
        self._verifier = verifier
        self._saved_file = saved_file
        self._shared_folder = shared_folder
        self._downloads = OwnerLimit(MAX_CONCURRENT_DOWNLOADS)

    async def answer(self, request: Request, send: Send) -> None:
        """Send the file, or the requested ranges. Raise Refusal."""
        link = await read_link(request, self._verifier, "videos")
        try:
            with self._downloads.slot(link.owner):
                await self._send(link, request, send)
        except LimitReached:
            message = (
                f"{MAX_CONCURRENT_DOWNLOADS} downloads of your links are under way, the most allowed. "
                "Try again when some have ended."
            )
            raise Refusal(429, message, TOO_MANY_HEADERS) from None

    async def _send(self, link: Link, request: Request, send: Send) -> None:
        video_id, variant = str(link.subject[0]), int(link.subject[1])
        try:
            path = await self._saved_file(link.owner, video_id, variant)
            saved = None if path is None else await self._open(path)
        except Silent:
            raise Refusal(
                503, "The folder of videos does not answer. The link is still valid.", UNAVAILABLE_HEADERS
            ) from None
        except (SoraError, OSError) as error:
            reason = error.message if isinstance(error, SoraError) else error.strerror
            logger.error("a linked video cannot be served: %s", reason)  # noqa: TRY400 - the message says it all
            raise Refusal(503, "This server cannot access the file now. Try again later.") from None
        if saved is None:
            raise _not_found()
        try:
            if video_subject(video_id, variant, saved.stat_result) != link.subject:
                raise _not_found()
            response = _FileResponse(saved, link.name)
            await response(_with_usable_range(request.scope, saved.stat_result.st_size), request.receive, send)
        except OSError as error:  # the client knows the length, and sees that it got less
            logger.error("a download was cut off: %s", error.strerror)  # noqa: TRY400 - likewise
        finally:
            with suppress(Silent), anyio.CancelScope(shield=True):
                await run_in_folder(saved.file.close)

    async def _open(self, path: Path) -> _Saved | None:
        """Open the file at a path; None if there is none. Raise OSError if that cannot be told now."""
        saved = await _open(path)
        if saved is None and self._shared_folder is not None:
            await run_in_folder(check_mounted, self._shared_folder)
        return saved


def _not_found() -> Refusal:
    return Refusal(
        404, "The file is no longer here. Call download_video to save the video again, if the gateway still has it."
    )


class _Saved(Struct):
    """An open file, described by `stat_result`. It is read in the threads of its folder."""

    path: Path
    file: BinaryIO
    stat_result: os.stat_result

    async def seek(self, offset: int) -> None:
        self.file.seek(offset)

    async def read(self, size: int) -> bytes:
        """Read up to the length that the file had when it was opened. Raise OSError."""
        return await run_in_folder(self._read, size)

    def _read(self, size: int) -> bytes:
        expected = min(size, self.stat_result.st_size - self.file.tell())
        part = self.file.read(expected)
        if len(part) < expected:
            raise OSError(errno.EIO, "the file is shorter than it was")
        return part


async def _open(path: Path) -> _Saved | None:
    """Open the file at a path; None if there is none. Raise OSError if it cannot be read."""

    def open_file() -> _Saved:
        file = path.open("rb")
        return _Saved(path, file, os.fstat(file.fileno()))

    try:
        return None if await run_in_folder(stat_file, path) is None else await run_in_folder(open_file)
    except FileNotFoundError:  # it was removed just now
        return None


class _FileResponse(FileResponse):
    """Sends a file that is already open: the one that was checked, whatever has its name now."""

    def __init__(self, saved: _Saved, name: str) -> None:
        stat_result, media_type = saved.stat_result, "video/mp4"
        super().__init__(
            saved.path, media_type=media_type, filename=name, stat_result=stat_result, content_disposition_type="inline"
        )
        self._saved = saved

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[Any]:
        """Override starlette's method, which opens the path again. Early releases have no such method, and do so."""
        yield self._saved


def stat_file(path: Path) -> os.stat_result | None:
    """Return the stat of a regular file; None if there is none."""
    try:
        stat_result = path.stat()
    except OSError:
        return None
    return stat_result if stat.S_ISREG(stat_result.st_mode) else None


def _with_usable_range(scope: Scope, size: int) -> Scope:
    """Return the request without a Range that has to be ignored (RFC 9110 §14.2): of another unit, of a HEAD, of too
    many, or unreadable; and without those of several ranges that start after the end of a file of `size` bytes."""
    headers = [each for each in scope["headers"] if each[0] != b"range"]
    range_ = next((value for name, value in scope["headers"] if name == b"range"), b"")
    ranges = _ranges(range_) if scope["method"] == "GET" else None
    if ranges:
        usable = [each for each in ranges if _is_in(each, size)] or ranges
        headers.append((b"range", b"bytes=" + b",".join(map(b"-".join, usable))))
    return {**scope, "headers": headers}


_Range = tuple[bytes, bytes]
"""The digits of its first and last byte; without the first, of the number of bytes at the end."""


def _ranges(range_: bytes) -> list[_Range] | None:
    """Parse the header's value; None if it isn't understood, or has too many ranges."""
    in_bytes = re.fullmatch(rb"\s*bytes\s*=(.*)", range_, re.IGNORECASE)
    parts = in_bytes[1].split(b",") if in_bytes else []
    matches = [re.fullmatch(rb"([0-9]{0,99})-([0-9]{0,99})", part.strip()) for part in parts if part.strip()]
    if len(parts) > MAX_RANGES or not all(map(_is_range, matches)):
        return None
    return [(each[1], each[2]) for each in matches if each]


def _is_range(match: re.Match[bytes] | None) -> bool:
    if match is None or not (match[1] or match[2]):
        return False
    return not (match[1] and match[2]) or int(match[1]) <= int(match[2])


def _is_in(range_: _Range, size: int) -> bool:
    """Return whether a file of `size` bytes has some of the range."""
    first, last = range_
    return int(first) < size if first else int(last) > 0
