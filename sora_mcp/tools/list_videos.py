"""`list_videos`: earlier videos, newest first, and a wait for all that are under way."""

from __future__ import annotations

import unicodedata
from typing import Annotated

import anyio
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from sora_mcp.core.models import Model
from sora_mcp.core.results import VideoList
from sora_mcp.core.tasks import State
from sora_mcp.studio import Studio
from sora_mcp.tools.caller import Caller, Progress
from sora_mcp.tools.list_sentences import render_list
from sora_mcp.tools.published import PublishedVideoList
from sora_mcp.tools.tool import Tool
from sora_mcp.tools.wording import MAX_WAIT_S

DEFAULT_LIMIT = 10
"""Videos in one answer by default."""


def _visible(text: str) -> str:
    if all(unicodedata.category(each) in _INVISIBLE_CATEGORIES for each in text):
        raise PydanticCustomError("sora", "is blank; allowed: visible text, or leave it out for all")
    return text


_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
"""Categories of Unicode: control and format characters, and spaces."""


class ListVideos(Model):
    """Arguments of `list_videos`."""

    query: (
        Annotated[str, Field(description="Only videos with this text in prompt or beats."), AfterValidator(_visible)]
        | None
    ) = None
    status: Annotated[State, Field(description="Only videos in this state. unknown: a video may exist.")] | None = None
    wait_seconds: Annotated[
        int, Field(ge=0, le=MAX_WAIT_S, description="Seconds to wait first for all under way to finish.")
    ] = 0
    limit: Annotated[int, Field(ge=1, le=50, description="Maximum videos per page.")] = DEFAULT_LIMIT
    cursor: Annotated[str, Field(description="next_cursor from the last page.")] | None = None


async def _run(studio: Studio, arguments: ListVideos, caller: Caller) -> VideoList:
    began, wait = anyio.current_time(), min(arguments.wait_seconds, caller.host_timeout.max_wait_s)

    async def report(finished: int, total: int) -> None:
        waited = min(round(anyio.current_time() - began, 1), wait)
        message = f"{finished} of {total} have finished"
        await caller.progress(Progress(waited, wait, message, f"{finished}/{total}", finished / total))

    with caller.host_timeout.waiting(wait):
        return await studio.list_videos(
            query=arguments.query,
            states=(arguments.status,) if arguments.status else (),
            limit=arguments.limit,
            cursor=arguments.cursor,
            wait_seconds=wait,
            on_progress=report,
        )


LIST_VIDEOS = Tool(
    "list_videos",
    "List videos",
    "List the videos made here, newest first, or wait for all under way. Returns counts by state, the total cost, and "
    "each video's id, state, prompt, size and sources. Use it to find a lost id, and before you repeat a call whose "
    "outcome is unknown; for the addresses of one use get_video. Free.",
    ListVideos,
    PublishedVideoList,
    _run,
    render_list,
    examples=({"status": "succeeded", "limit": 5}, {"query": "fox", "wait_seconds": 50}),
)
