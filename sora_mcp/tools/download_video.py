"""`download_video`: a finished video as a file on this machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import anyio

from sora_mcp.core.models import Model
from sora_mcp.core.results import Download
from sora_mcp.studio import Studio
from sora_mcp.tools import sentences
from sora_mcp.tools.caller import Caller, Progress
from sora_mcp.tools.tool import EXAMPLE_ID, TaskId, Tool, VariantNumber


class DownloadVideo(Model):
    """Arguments of `download_video`."""

    task_id: TaskId
    variant: VariantNumber = 1


_REPORT_INTERVAL_S = 0.5
"""Seconds between two reports of progress."""


async def _run(studio: Studio, arguments: DownloadVideo, caller: Caller) -> Download:
    last = -1.0

    async def report(done: int, total: int | None) -> None:
        nonlocal last
        if (now := anyio.current_time()) - last >= _REPORT_INTERVAL_S:
            last = now
            share = min(1.0, done / total) if total else None
            await caller.progress(Progress(done, total, "downloading", "downloading", share))

    variant, save_as = arguments.variant, caller.save_as
    download = await studio.download(arguments.task_id, variant=variant, on_bytes=report, save_as=save_as)
    if caller.links is None:
        return download
    from sora_mcp.tools.remote import with_link  # noqa: PLC0415 - most callers are on this machine

    return await with_link(download, caller.links)


DOWNLOAD_VIDEO = Tool(
    "download_video",
    "Download a video",
    "Save a finished video in this machine's output folder. Returns its path; a second call returns the same one, "
    "and nothing is overwritten. Use it when the user wants the file (addresses expire); to look at it yourself use "
    "view_video. Free.",
    DownloadVideo,
    Download,
    _run,
    sentences.render_download,
    file=lambda download: Path(download.path or urlsplit(download.url or "").path),
    read_only=False,
    examples=({"task_id": EXAMPLE_ID}, {"task_id": EXAMPLE_ID, "variant": 2}),
)
