"""The tools' arguments: what each publishes of the documented body, under the documented names."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from pydantic.functional_validators import BeforeValidator
from pydantic_core import PydanticCustomError

from sora_mcp.models import (
    Action,
    Amount,
    FrameIndex,
    Frames,
    GenerationId,
    Height,
    ImageUrl,
    MediaId,
    Model,
    ModelName,
    Operation,
    SourceEnd,
    SourceStart,
    Style,
    Variants,
    VideoRequest,
    Width,
)
from sora_mcp.tables import FPS
from sora_mcp.tasks import State


def _frame(value: object) -> object:
    """A frame from seconds such as `"2.5s"`; anything else is left to the model."""
    if not isinstance(value, str) or not value.strip().lower().endswith("s"):
        return value
    try:
        frame = float(value.strip()[:-1]) * FPS
    except ValueError:
        return value
    if not 0 <= frame < 1e9:
        raise PydanticCustomError("sora", "lies outside the video; allowed: a frame (30 per second)")
    return round(frame)


class Beat(Model):
    """A storyboard beat; seconds such as `2.5s` are taken for a frame."""

    time: Annotated[int, BeforeValidator(_frame), Field(ge=0, description=Action.model_fields["time"].description)]
    description: Annotated[str, Field(description="What is seen.")]


class ImageItem(Model):
    """An image to begin with."""

    url: ImageUrl | None = None
    upload_media_id: MediaId | None = None
    frame_index: FrameIndex | None = None


class CardItem(ImageItem):
    """An image or an earlier video as a card of a storyboard."""

    generation_id: GenerationId | None = None
    source_start_frame: SourceStart | None = None
    source_end_frame: SourceEnd | None = None


class SourceItem(Model):
    """One of the two that are blended."""

    generation_id: GenerationId | None = None
    url: ImageUrl | None = None
    upload_media_id: MediaId | None = None
    source_start_frame: SourceStart | None = None
    source_end_frame: SourceEnd | None = None


_EACH = "Each: exactly one of its ids or url."
DryRun = Annotated[bool, Field(description="Show the body and cost; submit nothing.")]
AllowDuplicate = Annotated[bool, Field(description="Pay again for the same.")]
TaskId = Annotated[str, Field(description="task_… id (or req_… of a call).")]
VariantNumber = Annotated[int, Field(ge=1, description="Which variant.")]


class Paid(Model):
    """What the paid tools share. `None` is only ever the absence of an argument."""

    prompt: Annotated[str, Field(description="What to see.")] | None = None
    width: Width = 854
    height: Height = 480
    n_frames: Frames = 150
    n_variants: Variants = 1
    style: Style = "natural"
    model: ModelName | None = None
    dry_run: DryRun = False
    allow_duplicate: AllowDuplicate = False

    def request(self, operation: Operation, **parts: Any) -> VideoRequest:
        """The documented body; only what was given counts as set, so that a source can fill in the rest."""
        given = self.model_dump(exclude_unset=True, include=set(Paid.model_fields) - {"dry_run", "allow_duplicate"})
        return VideoRequest(operation=operation, **given, **{k: v for k, v in parts.items() if v is not None})


class CreateVideo(Paid):
    """Arguments of `create_video`."""

    inpaint_items: Annotated[list[ImageItem], Field(description="Optional image. " + _EACH)] = []


class StoryboardVideo(Paid):
    """Arguments of `storyboard_video`."""

    actions: Annotated[list[Beat], Field(description="Beats.")] | None = None
    inpaint_items: Annotated[list[CardItem], Field(description="Optional cards. " + _EACH)] = []


class _FromSource(Paid):
    width: Annotated[Width, Field(description="Default: the source's.")] | None = None  # type: ignore[assignment]
    height: Annotated[Height, Field(description="Default: the source's.")] | None = None  # type: ignore[assignment]
    n_frames: Annotated[Frames, Field(description="Default: the source's.")] | None = None  # type: ignore[assignment]


class RemixVideo(_FromSource):
    """Arguments of `remix_video`."""

    prompt: Annotated[str, Field(description="What to change.")]
    source_generation_id: GenerationId | None = None
    source_upload_media_id: MediaId | None = None
    amount: Amount | None = None


class BlendVideos(_FromSource):
    """Arguments of `blend_videos`."""

    inpaint_items: Annotated[
        list[SourceItem], Field(min_length=2, max_length=2, description="The two sources. " + _EACH)
    ]


class GetVideo(Model):
    """Arguments of `get_video`."""

    task_id: TaskId
    wait_seconds: Annotated[int, Field(ge=0, le=50, description="Wait up to this long for it to finish.")] = 0


class ListVideos(Model):
    """Arguments of `list_videos`."""

    status: Annotated[State, Field(description="Only these.")] | None = None
    limit: Annotated[int, Field(ge=1, le=50, description="How many.")] = 10
    cursor: Annotated[str, Field(description="next_cursor of the last answer.")] | None = None


class ViewVideo(Model):
    """Arguments of `view_video`."""

    task_id: TaskId
    variant: VariantNumber = 1
    frames: Annotated[int, Field(ge=1, le=16, description="Stills, evenly spaced.")] = 6


class DownloadVideo(Model):
    """Arguments of `download_video`."""

    task_id: TaskId
    variant: VariantNumber = 1
