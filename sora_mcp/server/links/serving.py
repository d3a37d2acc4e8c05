"""A video by a signed link, in ranges, as players ask for them."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.types import Scope, Send

from sora_mcp.core.errors import SoraError
from sora_mcp.server.links.answers import LinkVerifier, Refusal, link_of
from sora_mcp.server.links.signing import Subject

MOST_RANGES = 16
"""Ranges of one request; where more are asked for, the whole file is sent. Players ask for one."""

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

    async def answer(self, request: Request, send: Send) -> None:
        """Send the file, or the ranges of it that are asked for. Raises Refusal."""
        link = await link_of(request, self._verifier, "videos")
        video_id, variant = str(link.subject[0]), int(link.subject[1])
        try:
            path = await self._saved_file(link.owner, video_id, variant)
        except SoraError as error:
            logger.error("a link cannot be used: %s", error.message)  # noqa: TRY400 - the message says it all
            raise Refusal(503, "This server cannot look for the file now. Try again later.") from None
        about = None if path is None else await to_thread.run_sync(look_at, path)
        if path is None or about is None or subject_of(video_id, variant, about) != link.subject:
            raise Refusal(404, "The file is not here any more. download_video saves the video again, if it can be had.")
        response = FileResponse(
            path, media_type="video/mp4", filename=link.name, stat_result=about, content_disposition_type="inline"
        )
        await response(_with_usable_range(request.scope), request.receive, send)


def look_at(path: Path) -> os.stat_result | None:
    """What a file is; None where none lies there."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about if stat.S_ISREG(about.st_mode) else None


def _with_usable_range(scope: Scope) -> Scope:
    """The request without a Range that is to be ignored (RFC 9110 §14.2): of another unit, of a HEAD, of too many."""
    ranges = next((value for name, value in scope["headers"] if name == b"range"), b"")
    in_bytes = re.match(rb"\s*bytes\s*=", ranges, re.IGNORECASE)
    if scope["method"] == "GET" and in_bytes and ranges.count(b",") < MOST_RANGES:
        return scope
    return {**scope, "headers": [each for each in scope["headers"] if each[0] != b"range"]}
