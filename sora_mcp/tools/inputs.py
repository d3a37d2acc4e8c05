"""The tools' arguments: what each publishes of the documented body, under the documented names."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.models import (
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
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import State


class FromSeconds(int):
    """A frame that was written in seconds, with their unit."""


def _frame(value: Any, read: ValidatorFunctionWrapHandler) -> int:
    """A frame, also from seconds such as `"2.5s"`; part of a frame is refused."""
    if isinstance(value, str) and _is_in_seconds(value):
        frame = float(value.strip()[:-1]) * FPS
        if not 0 <= frame < _FAR:
            raise PydanticCustomError("sora", "lies outside the video; allowed: a frame (30 per second)")
        return FromSeconds(round(frame))
    if (seconds := _part_of_a_frame(value)) is not None:
        wrong = f"is {seconds:g}, no whole frame ({FPS} per second)"
        words = f'{wrong}; allowed: {round(seconds * FPS)}, or "{seconds:g}s", if seconds were meant'
        raise PydanticCustomError("sora", "{words}", {"words": words})
    return int(read(value))


_FAR = 1e9
"""Frames that no video has."""


def _is_in_seconds(value: str) -> bool:
    return _number(value.strip()[:-1]) is not None if value.strip()[-1:] in {"s", "S"} else False


def _part_of_a_frame(value: object) -> float | None:
    """A positive number with a fraction, as a number or a text; None for anything else."""
    number = _number(value) if isinstance(value, float | str) else None
    return number if number is not None and 0 < number < _FAR and not number.is_integer() else None


def _number(value: float | str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


class Beat(Model):
    """A storyboard beat; seconds such as `2.5s` are taken for a frame."""

    time: Annotated[int, Field(ge=0, description=Action.model_fields["time"].description), WrapValidator(_frame)]
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

    def request(self, operation: Operation, **parts: Any) -> VideoRequest:
        """The documented body. Raises InvalidInput where its beats look like seconds."""
        if (problem := _meant_as_seconds(self.actions or [], self.n_frames)) is not None:
            raise InvalidInput([problem])
        return super().request(operation, **parts)


def _meant_as_seconds(beats: list[Beat], n_frames: int) -> Problem | None:
    """Beats at 0, 3, 6 of ten seconds: as frames they would all stand in a fifth of a second.

    That is where the last plain number, of two beats or more, is less than the video's length in seconds. A time that
    was written with its unit is what it says, and 0 is the same in both.
    """
    times = [beat.time for beat in beats]
    last = max((time for time in times if not isinstance(time, FromSeconds)), default=0)
    if len(beats) < 2 or not 0 < last < n_frames / FPS or times != sorted(set(times)):
        return None
    frames = [time if isinstance(time, FromSeconds) else time * FPS for time in times]
    return Problem(
        "actions[].time",
        f"{_listed(times)} are frames ({FPS} per second), but look like seconds: frame {last} is {last / FPS:.2g} s",
        f"{_listed(frames)}, or {_in_quotes(frames)}, if seconds were meant; {_in_quotes(times)} if frames were",
    )


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _in_quotes(frames: list[int]) -> str:
    """Frames as times with their unit; three digits tell each frame from the next."""
    return ", ".join(f'"{round(frame / FPS, 3):g}s"' for frame in frames)


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
