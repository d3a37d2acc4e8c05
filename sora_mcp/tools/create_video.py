"""`create_video`: a new video from a prompt, an image, or both."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sora_mcp.core.results import Submission
from sora_mcp.studio import Studio
from sora_mcp.tools import sentences
from sora_mcp.tools.caller import Caller
from sora_mcp.tools.paid import COST_NOTE, SOURCE_NOTE, ImageItem, Paid, body_items, submit
from sora_mcp.tools.published import PublishedSubmission
from sora_mcp.tools.tool import Tool


class CreateVideo(Paid):
    """Arguments of `create_video`."""

    inpaint_items: Annotated[list[ImageItem], Field(description=f"An image to start from. {SOURCE_NOTE}")] = []


async def _run(studio: Studio, arguments: CreateVideo, caller: Caller) -> Submission:
    return await submit(studio, arguments, caller, "simple_compose", inpaint_items=body_items(arguments.inpaint_items))


CREATE_VIDEO = Tool(
    "create_video",
    "Create a video",
    "Make a new video of one scene from a prompt, an image, or both. For several scenes at set times use "
    f"storyboard_video; to change a finished video, remix_video; to merge two, blend_videos. {COST_NOTE}",
    CreateVideo,
    PublishedSubmission,
    _run,
    sentences.render_submission,
    paid=True,
    read_only=False,
    idempotent=False,
    examples=(
        {"prompt": "A lighthouse on a cliff at sunset, waves below, slow aerial shot"},
        {
            "prompt": "The fox lifts its head and looks into the camera",
            "width": 480,
            "height": 854,
            "inpaint_items": [{"url": "https://example.com/fox.png", "frame_index": 0}],
        },
    ),
)
