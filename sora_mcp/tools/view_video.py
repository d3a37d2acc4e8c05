"""`view_video`: stills of a finished video in one picture."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sora_mcp.core.models import Model
from sora_mcp.core.results import Look
from sora_mcp.studio import Studio
from sora_mcp.tools import sentences
from sora_mcp.tools.caller import Caller
from sora_mcp.tools.fields import EXAMPLE_ID, TaskId, VariantNumber
from sora_mcp.tools.tool import Tool


class ViewVideo(Model):
    """Arguments of `view_video`."""

    task_id: TaskId
    variant: VariantNumber = 1
    frames: Annotated[int, Field(ge=1, le=16, description="How many stills, evenly spaced; fewer are larger.")] = 6


async def _run(studio: Studio, arguments: ViewVideo, caller: Caller) -> Look:
    return await studio.view(
        arguments.task_id, variant=arguments.variant, frames=arguments.frames, picture_format=caller.picture_format
    )


VIEW_VIDEO = Tool(
    "view_video",
    "View a video",
    "Look at a finished video. Returns one picture of evenly spaced stills, each with its time and frame: judge by it "
    "before you call a video done or remix it. To give the user the file use download_video. Free.",
    ViewVideo,
    Look,
    _run,
    sentences.say_look,
    picture=lambda look: look.picture,
    examples=({"task_id": EXAMPLE_ID, "frames": 4},),
)
