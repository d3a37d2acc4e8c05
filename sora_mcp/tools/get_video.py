"""`get_video`: a video as it is now, or as it is once it has finished."""

from __future__ import annotations

from typing import Annotated

import anyio
from pydantic import Field

from sora_mcp.core.models import Model
from sora_mcp.core.results import Video
from sora_mcp.studio import Studio
from sora_mcp.tools import sentences
from sora_mcp.tools.caller import Caller, Progress
from sora_mcp.tools.published import PublishedVideo
from sora_mcp.tools.tool import EXAMPLE_ID, TaskId, Tool
from sora_mcp.tools.wording import MAX_WAIT_S


class GetVideo(Model):
    """Arguments of `get_video`."""

    task_id: TaskId
    wait_seconds: Annotated[
        int,
        Field(ge=0, le=MAX_WAIT_S, description="Seconds to wait for it to finish; use 50, and repeat while it runs."),
    ] = 0


async def _run(studio: Studio, arguments: GetVideo, caller: Caller) -> Video:
    began, wait = anyio.current_time(), min(arguments.wait_seconds, caller.host_timeout.max_wait_s)

    async def report(video: Video) -> None:
        waited = min(round(anyio.current_time() - began, 1), wait)
        percent = video.progress
        message = f"{sentences.display_id(video)} is {video.state}" + ("" if percent is None else f", {percent} %")
        share = None if percent is None else percent / 100
        await caller.progress(Progress(waited, wait, message, video.state, share))

    with caller.host_timeout.waiting(wait):
        return await studio.get(arguments.task_id, wait_seconds=wait, on_progress=report)


GET_VIDEO = Tool(
    "get_video",
    "Get a video",
    "Check one video, or wait for it to finish. Returns its state, progress, the whole request, why it failed, and "
    "addresses, which may expire (download_video keeps the file). For several videos or a lost id use list_videos; to "
    "look at it, view_video. Free.",
    GetVideo,
    PublishedVideo,
    _run,
    sentences.render_video,
    examples=({"task_id": EXAMPLE_ID, "wait_seconds": 50},),
)
