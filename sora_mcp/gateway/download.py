"""Downloading a video: streamed, bounded, resumed if it is cut off, and checked before it gets its name."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

import httpx
from msgspec import Struct

from sora_mcp.core.advice import AskUser, Do, LocalText, Setting
from sora_mcp.core.errors import BadReply, FileProblem
from sora_mcp.gateway.address import RETRY_ADVICE, open_address
from sora_mcp.gateway.calls import Gateway
from sora_mcp.gateway.container import HEAD_BYTES, is_video, is_whole
from sora_mcp.gateway.folder import FSYNC_TIMEOUT_S, Silent, put_in_place, remove_leftovers, run_in_folder, run_within
from sora_mcp.gateway.retrying import retry

MAX_ATTEMPTS = 4
"""Requests for one video, including the first, if it is cut off or the host fails."""

_CLEANUP_TIMEOUT_S = 2.0
"""Seconds for cleaning up in the folder; what is left after that is removed at `LEFTOVER_AGE_S`."""

Progress = Callable[[int, int | None], Awaitable[None]]
"""Called with the bytes received so far and the total (None if the sender does not say)."""


async def _no_progress(_done: int, _total: int | None) -> None: ...


async def fetch(
    gateway: Gateway,
    url: str,
    target: Path,
    *,
    max_bytes: int,
    timeout_s: float,
    on_progress: Progress = _no_progress,
) -> int:
    """Save `url` as `target` and return its size in bytes; `target` must not exist and is never overwritten.

    The video is written beside `target` under a name of its own, checked, synced, then linked into place, so that
    `target` is either whole or absent. Raises BadReply (cut off, refused, not a video, too large, too slow) or
    FileProblem (the disk).
    """
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        file = await run_in_folder(_create_part, part)
        try:
            download = _Download(
                gateway=gateway, url=url, path=part, file=file, max_bytes=max_bytes, on_progress=on_progress
            )
            size = await retry(download.attempt, _is_transient, attempts=MAX_ATTEMPTS, timeout_s=timeout_s)
            await run_within(FSYNC_TIMEOUT_S, partial(os.fsync, file.fileno()))
        finally:
            await run_within(_CLEANUP_TIMEOUT_S, file.close)
        await run_in_folder(put_in_place, part, target)
    except Silent as error:
        raise _save_error(target, error) from None
    except TimeoutError:
        message = ("The video could not be downloaded in time (setting ", Setting("download_timeout"), ").")
        raise BadReply(message, RETRY_ADVICE) from None
    except httpx.HTTPError:
        raise BadReply("The connection broke while the video was downloaded.", RETRY_ADVICE) from None
    except OSError as error:
        raise _save_error(target, error) from None
    finally:
        with suppress(OSError):
            await run_within(_CLEANUP_TIMEOUT_S, part.unlink)
    return size


def _create_part(part: Path) -> BinaryIO:
    """Create the partial file, and remove those that killed servers have left."""
    file = part.open("xb")
    with suppress(OSError):
        remove_leftovers(part.parent, part.stat().st_mtime)
    return file


def _save_error(target: Path, error: OSError) -> FileProblem:
    return FileProblem(
        (
            "The video cannot be saved",
            LocalText(f" in {target.parent}", ""),
            f": {error.strerror or 'the disk refuses'}.",
        ),
        AskUser(("check the folder (setting ", Setting("output_dir"), ") and the free space")),
    )


def copy_new(source: Path, target: Path) -> None:
    """Copy a saved video as `fetch` saves one: whole or not at all, never over a file. Raises FileProblem."""
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        with source.open("rb") as saved, part.open("xb") as copy:
            shutil.copyfileobj(saved, copy)
            copy.flush()
            os.fsync(copy.fileno())
        put_in_place(part, target)
    except OSError as error:
        message = f"The video cannot be saved in {target.parent}: {error.strerror or 'the disk refuses'}."
        raise FileProblem(message) from None
    finally:
        with suppress(OSError):
            part.unlink()


class _Cut(BadReply):
    """The video ended too early; the rest may come at the next attempt."""


class _Download(Struct, kw_only=True):
    """A video being downloaded into `file` (at `path`): what was received of it, and how to get the rest.

    `validator` is what the sender recognizes this very file by; if it is empty, only the whole can be requested.
    """

    gateway: Gateway
    url: str
    path: Path
    file: BinaryIO
    max_bytes: int
    on_progress: Progress
    head: bytes = b""
    received: int = 0
    reported: int = 0
    total: int | None = None
    validator: str = ""

    async def attempt(self) -> int:
        """Request what is missing once, and return the size of the whole. Raises BadReply or httpx.HTTPError."""
        can_resume = self.received and self.validator
        headers = {"Range": f"bytes={self.received}-", "If-Range": self.validator} if can_resume else {}
        async with open_address(self.gateway, self.url, headers) as response:
            self._check_response(response)
            async for chunk in response.aiter_bytes():
                await self._write(chunk)
        await self._check()
        return self.received

    def _check_response(self, response: httpx.Response) -> None:
        match response.status_code:
            case 200:
                self._restart(response.headers)
            case 206 if self._resumes(response.headers):
                pass
            case 206 | 416 if self.received:
                self.validator = ""
                raise _cut()
            case status:
                raise BadReply(f"The video's address answered with status {status}.", RETRY_ADVICE, http_status=status)
        if self.total is not None and self.total > self.max_bytes:
            raise self._too_large()

    def _restart(self, headers: httpx.Headers) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.head, self.received = b"", 0
        declared = headers.get("content-length", "")
        self.total = int(declared) if declared.isdecimal() else None
        self.validator = _validator(headers)

    def _resumes(self, headers: httpx.Headers) -> bool:
        """Whether a 206 brings the very bytes that are missing, of the very file (RFC 9110 §14.4, §15.3.7)."""
        match = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", headers.get("content-range", ""))
        if not self.validator or match is None or int(match[1]) != self.received:
            return False
        total = self.total if match[2] == "*" else int(match[2])
        if self.total not in {None, total} or _validator(headers) not in {"", self.validator}:
            return False
        self.total = total
        return True

    async def _write(self, chunk: bytes) -> None:
        self.head = (self.head + chunk[:HEAD_BYTES])[:HEAD_BYTES]
        if len(self.head) == HEAD_BYTES and not is_video(self.head):
            raise _not_a_video()
        self.received += len(chunk)
        if self.received > self.max_bytes:
            raise self._too_large()
        await run_in_folder(self.file.write, chunk)
        if self.received > self.reported:
            self.reported = self.received
            await self.on_progress(self.received, self.total)

    async def _check(self) -> None:
        if self.received < (self.total or HEAD_BYTES):
            raise _cut()
        await run_in_folder(self.file.flush)
        try:
            whole = await run_in_folder(is_whole, self.path, self.received)
        except ValueError:
            raise _not_a_video() from None
        if not whole and self.total is None:
            raise _cut()
        if not whole:  # everything that the sender has was received
            raise BadReply("The video at its address is incomplete.", RETRY_ADVICE)

    def _too_large(self) -> BadReply:
        return BadReply(
            f"The video is larger than {self.max_bytes // 1_000_000} MB.",
            Do(("The setting ", Setting("download_max_mb"), " allows more.")),
        )


def _cut() -> _Cut:
    return _Cut("The download of the video was cut off.", RETRY_ADVICE)


def _not_a_video() -> BadReply:
    return BadReply("What the video's address returns is not a video.", RETRY_ADVICE)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, BadReply):
        return isinstance(error, _Cut) or error.http_status == 408 or (error.http_status or 0) >= 500
    is_permanent = isinstance(error, httpx.ProxyError | httpx.UnsupportedProtocol)
    return isinstance(error, httpx.TransportError) and not is_permanent


def _validator(headers: httpx.Headers) -> str:
    """The value for If-Range (RFC 9110 §13.1.5): a strong entity tag, or else a date that is old enough to be one."""
    if headers.get("content-encoding", "identity") != "identity":  # its bytes are not the ones counted here
        return ""
    if etag := headers.get("etag", ""):
        return etag if etag.startswith('"') else ""
    try:
        modified = headers.get("last-modified", "")
        age = parsedate_to_datetime(headers.get("date", "")) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):
        return ""
    return modified if age.total_seconds() >= 1 else ""
