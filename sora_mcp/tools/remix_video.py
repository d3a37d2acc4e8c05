"""`remix_video`: a finished video, changed as a prompt says."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sora_mcp.core.models import Amount, GenerationId, MediaId, SDEdit
from sora_mcp.core.results import Submission
from sora_mcp.studio import Studio
from sora_mcp.tools import sentences
from sora_mcp.tools.caller import Caller
from sora_mcp.tools.paid import COST_NOTE, FromSource, submit
from sora_mcp.tools.published import PublishedSubmission
from sora_mcp.tools.tool import EXAMPLE_ID, Tool


class RemixVideo(FromSource):
    """Arguments of `remix_video`."""

    prompt: Annotated[str, Field(description="What to change, such as 'the same at night'.")]
    source_generation_id: GenerationId | None = None
    source_upload_media_id: MediaId | None = None
    amount: Amount | None = None


async def _run(studio: Studio, arguments: RemixVideo, caller: Caller) -> Submission:
    names = {"amount", "source_generation_id", "source_upload_media_id"}
    edit = SDEdit(**arguments.model_dump(exclude_none=True, include=names))
    return await submit(studio, arguments, caller, "remix", sdedit=edit)


REMIX_VIDEO = Tool(
    "remix_video",
    "Remix a video",
    "Make a copy of a finished video, changed as the prompt says; the original is kept. Give exactly one of "
    "source_generation_id and source_upload_media_id. Without a source use create_video; with two, blend_videos. "
    + COST_NOTE,
    RemixVideo,
    PublishedSubmission,
    _run,
    sentences.render_submission,
    paid=True,
    read_only=False,
    idempotent=False,
    examples=({"source_generation_id": EXAMPLE_ID, "prompt": "The same scene at night", "amount": 3},),
)
