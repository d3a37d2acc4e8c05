"""Fetching a video: streamed, bounded, resumed where it is cut, and checked before it gets its name."""

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

from sora_mcp.core.advice import AskUser, Do, Place, Setting
from sora_mcp.core.errors import BadReply, FileProblem
from sora_mcp.gateway.address import LATER, open_address
from sora_mcp.gateway.calls import Gateway
from sora_mcp.gateway.container import HEAD_BYTES, is_video, is_whole
from sora_mcp.gateway.folder import FLUSHED_WITHIN_S, Silent, in_folder, put_in_place, remove_leftovers, within
from sora_mcp.gateway.retrying import until_it_works

ATTEMPTS = 4
"""How often the address is asked in all, where the video is cut or the host is in trouble."""

_TIDY_WITHIN_S = 2.0
"""Seconds to tidy up in the folder, after which what is left there is for `LEFTOVER_AGE`."""

Progress = Callable[[int, int | None], Awaitable[None]]
"""Told bytes so far and bytes in all (None where the sender does not say)."""


async def _no_progress(_done: int, _total: int | None) -> None: ...


async def fetch(
    gateway: Gateway,
    url: str,
    target: Path,
    *,
    max_bytes: int,
    seconds: float,
    on_progress: Progress = _no_progress,
) -> int:
    """Save `url` as `target` and return its size in bytes; `target` must not exist and is never overwritten.

    Written beside `target` under a name of its own, checked, synced, then linked into place, so that
    `target` is either whole or absent. Raises BadReply (cut off, refused, not a video, too large, too
    slow) or FileProblem (the disk).
    """
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        file = await in_folder(_begin, part)
        try:
            coming = _Coming(
                gateway=gateway, url=url, path=part, file=file, max_bytes=max_bytes, on_progress=on_progress
            )
            size = await until_it_works(coming.go_on, _may_pass, attempts=ATTEMPTS, seconds=seconds)
            await within(FLUSHED_WITHIN_S, partial(os.fsync, file.fileno()))
        finally:
            await within(_TIDY_WITHIN_S, file.close)
        await in_folder(put_in_place, part, target)
    except Silent as error:
        raise _not_saved(target, error) from None
    except TimeoutError:
        late = ("The video could not be downloaded in time (setting ", Setting("download_timeout"), ").")
        raise BadReply(late, LATER) from None
    except httpx.HTTPError:
        raise BadReply("The connection broke while the video was downloaded.", LATER) from None
    except OSError as error:
        raise _not_saved(target, error) from None
    finally:
        with suppress(OSError):
            await within(_TIDY_WITHIN_S, part.unlink)
    return size


def _begin(part: Path) -> BinaryIO:
    """A new file, once the halves were removed that killed servers have left."""
    file = part.open("xb")
    with suppress(OSError):
        remove_leftovers(part.parent, part.stat().st_mtime)
    return file


def _not_saved(target: Path, error: OSError) -> FileProblem:
    return FileProblem(
        ("The video cannot be saved", Place(f" in {target.parent}", ""), f": {error.strerror or 'the disk refuses'}."),
        AskUser(("check the folder (setting ", Setting("output_dir"), ") and the free space")),
    )


def copy_new(source: Path, target: Path) -> None:
    """Copy a saved video as `fetch` would save it: whole or not at all, never over a file. Raises FileProblem."""
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        with source.open("rb") as saved, part.open("xb") as copy:
            shutil.copyfileobj(saved, copy)
            copy.flush()
            os.fsync(copy.fileno())
        put_in_place(part, target)
    except OSError as error:
        words = f"The video cannot be saved in {target.parent}: {error.strerror or 'the disk refuses'}."
        raise FileProblem(words) from None
    finally:
        with suppress(OSError):
            part.unlink()


class _Cut(BadReply):
    """The video ended too early; the rest may come at the next attempt."""


class _Coming(Struct, kw_only=True):
    """A video on its way into `file` (at `path`): what has come of it, and how to get the rest.

    `validator` is by what the sender knows this very file again; where it is empty, it can only be sent from the start.
    """

    gateway: Gateway
    url: str
    path: Path
    file: BinaryIO
    max_bytes: int
    on_progress: Progress
    head: bytes = b""
    done: int = 0
    reported: int = 0
    total: int | None = None
    validator: str = ""

    async def go_on(self) -> int:
        """One attempt to get what is missing; returns the size of the whole. Raises BadReply or httpx.HTTPError."""
        headers = {"Range": f"bytes={self.done}-", "If-Range": self.validator} if self.done and self.validator else {}
        async with open_address(self.gateway, self.url, headers) as response:
            self._begin(response)
            async for chunk in response.aiter_bytes():
                await self._take(chunk)
        await self._check()
        return self.done

    def _begin(self, response: httpx.Response) -> None:
        match response.status_code:
            case 200:
                self._start(response.headers)
            case 206 if self._goes_on(response.headers):
                pass
            case 206 | 416 if self.done:
                self.validator = ""
                raise _cut()
            case status:
                raise BadReply(f"The video's address answered with status {status}.", LATER, http_status=status)
        if self.total is not None and self.total > self.max_bytes:
            raise self._too_large()

    def _start(self, headers: httpx.Headers) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.head, self.done = b"", 0
        declared = headers.get("content-length", "")
        self.total = int(declared) if declared.isdecimal() else None
        self.validator = _validator(headers)

    def _goes_on(self, headers: httpx.Headers) -> bool:
        """Whether a 206 brings the very bytes that are missing, of the very file (RFC 9110 §14.4, §15.3.7)."""
        match = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", headers.get("content-range", ""))
        if not self.validator or match is None or int(match[1]) != self.done:
            return False
        total = self.total if match[2] == "*" else int(match[2])
        if self.total not in {None, total} or _validator(headers) not in {"", self.validator}:
            return False
        self.total = total
        return True

    async def _take(self, chunk: bytes) -> None:
        self.head = (self.head + chunk[:HEAD_BYTES])[:HEAD_BYTES]
        if len(self.head) == HEAD_BYTES and not is_video(self.head):
            raise _no_video()
        self.done += len(chunk)
        if self.done > self.max_bytes:
            raise self._too_large()
        await in_folder(self.file.write, chunk)
        if self.done > self.reported:
            self.reported = self.done
            await self.on_progress(self.done, self.total)

    async def _check(self) -> None:
        if self.done < (self.total or HEAD_BYTES):
            raise _cut()
        await in_folder(self.file.flush)
        try:
            whole = await in_folder(is_whole, self.path, self.done)
        except ValueError:
            raise _no_video() from None
        if not whole and self.total is None:
            raise _cut()
        if not whole:  # all that the sender has has come
            raise BadReply("The video at its address is cut off.", LATER)

    def _too_large(self) -> BadReply:
        return BadReply(
            f"The video is larger than {self.max_bytes // 1_000_000} MB.",
            Do(("The setting ", Setting("download_max_mb"), " allows more.")),
        )


def _cut() -> _Cut:
    return _Cut("The video was cut off while it was downloaded.", LATER)


def _no_video() -> BadReply:
    return BadReply("What the video's address returns is not a video.", LATER)


def _may_pass(error: Exception) -> bool:
    if isinstance(error, BadReply):
        return isinstance(error, _Cut) or error.http_status == 408 or (error.http_status or 0) >= 500
    settled = isinstance(error, httpx.ProxyError | httpx.UnsupportedProtocol)
    return isinstance(error, httpx.TransportError) and not settled


def _validator(headers: httpx.Headers) -> str:
    """What may stand in If-Range (RFC 9110 §13.1.5): a strong entity tag, else a date that is old enough to be one."""
    if headers.get("content-encoding", "identity") != "identity":  # its bytes are not the ones that are counted
        return ""
    if tag := headers.get("etag", ""):
        return tag if tag.startswith('"') else ""
    try:
        modified = headers.get("last-modified", "")
        age = parsedate_to_datetime(headers.get("date", "")) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):
        return ""
    return modified if age.total_seconds() >= 1 else ""
