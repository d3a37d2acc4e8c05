"""`blend_videos`: two finished videos or images, joined into one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sora_mcp.core.models import GenerationId, ImageUrl, MediaId, Model, SourceEnd, SourceStart
from sora_mcp.core.results import Submission
from sora_mcp.studio import Studio
from sora_mcp.tools import sentences
from sora_mcp.tools.caller import Caller
from sora_mcp.tools.paid import COST_NOTE, SOURCE_NOTE, FromSource, body_items, submit
from sora_mcp.tools.published import PublishedSubmission
from sora_mcp.tools.schema import ItemCount
from sora_mcp.tools.tool import EXAMPLE_ID, OTHER_EXAMPLE_ID, Tool


class SourceItem(Model):
    """One of the two that are blended."""

    generation_id: GenerationId | None = None
    url: ImageUrl | None = None
    upload_media_id: MediaId | None = None
    source_start_frame: SourceStart | None = None
    source_end_frame: SourceEnd | None = None


class BlendVideos(FromSource):
    """Arguments of `blend_videos`."""

    prompt: Annotated[str, Field(description="How the first becomes the second; optional.")] | None = None
    inpaint_items: Annotated[
        list[SourceItem], ItemCount(2, 2), Field(description=f"The first and the second. {SOURCE_NOTE}")
    ]


async def _run(studio: Studio, arguments: BlendVideos, caller: Caller) -> Submission:
    return await submit(studio, arguments, caller, "blend", inpaint_items=body_items(arguments.inpaint_items))


BLEND_VIDEOS = Tool(
    "blend_videos",
    "Blend two videos",
    "Make one new video in which one finished video or image turns into another; files are not joined end to end. "
    f"To change a single video use remix_video; to place parts of several at set times, storyboard_video. {COST_NOTE}",
    BlendVideos,
    PublishedSubmission,
    _run,
    sentences.render_submission,
    paid=True,
    read_only=False,
    idempotent=False,
    examples=({"inpaint_items": [{"generation_id": EXAMPLE_ID}, {"generation_id": OTHER_EXAMPLE_ID + "#2"}]},),
)
