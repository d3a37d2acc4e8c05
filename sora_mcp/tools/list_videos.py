"""`list_videos`: earlier videos, newest first."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sora_mcp.core.models import Model
from sora_mcp.core.results import VideoList
from sora_mcp.core.tasks import State
from sora_mcp.studio import Studio
from sora_mcp.tools import sentences
from sora_mcp.tools.caller import Caller
from sora_mcp.tools.tool import Tool


class ListVideos(Model):
    """Arguments of `list_videos`."""

    status: Annotated[State, Field(description="Only these.")] | None = None
    limit: Annotated[int, Field(ge=1, le=50, description="How many.")] = 10
    cursor: Annotated[str, Field(description="next_cursor of the last answer.")] | None = None


async def _run(studio: Studio, arguments: ListVideos, _: Caller) -> VideoList:
    states = (arguments.status,) if arguments.status else ()
    return await studio.list_videos(states=states, limit=arguments.limit, cursor=arguments.cursor)


LIST_VIDEOS = Tool(
    "list_videos",
    "List videos",
    "List earlier videos, newest first, with what each was made from. Free.",
    ListVideos,
    VideoList,
    _run,
    sentences.say_list,
    examples=({}, {"status": "succeeded", "limit": 5}),
)
