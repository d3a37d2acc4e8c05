"""Shared by the tools that cost money: their arguments, their items, and the call that submits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.models import (
    FrameIndex,
    Frames,
    Height,
    ImageUrl,
    InpaintItem,
    MediaId,
    Model,
    ModelName,
    Operation,
    Style,
    Variants,
    VideoRequest,
    Width,
)
from sora_mcp.core.results import Submission
from sora_mcp.studio import Studio
from sora_mcp.tools.caller import Caller

COST_NOTE = "Costs money and cannot be cancelled. Returns a task_id at once; wait for it with get_video."
"""What every paid tool says of its cost and of what it returns."""
SOURCE_NOTE = "Give each exactly one url or id."
DryRun = Annotated[bool, Field(description="Show the exact request and its cost; send nothing.")]
AllowDuplicate = Annotated[bool, Field(description="Pay again for the same request.")]


class ImageItem(Model):
    """An image to begin with."""

    url: ImageUrl | None = None
    upload_media_id: MediaId | None = None
    frame_index: FrameIndex | None = None


class Paid(Model):
    """What the paid tools share. `None` is only ever the absence of an argument."""

    prompt: (
        Annotated[str, Field(description="What to show: subject, action, place, light. Optional with an image.")] | None
    ) = None
    width: Width = 854
    height: Height = 480
    n_frames: Frames = 150
    n_variants: Variants = 1
    style: Style = "natural"
    model: ModelName | None = None
    dry_run: DryRun = False
    allow_duplicate: AllowDuplicate = False

    def request(self, operation: Operation, **parts: Any) -> VideoRequest:
        """Return the documented body. Only arguments that were sent count as set; a source can fill in the rest."""
        values = self.model_dump(exclude_unset=True, include=set(Paid.model_fields) - {"dry_run", "allow_duplicate"})
        return VideoRequest(operation=operation, **values, **{k: v for k, v in parts.items() if v is not None})


class FromSource(Paid):
    """What is made from a finished video: size and length are its own, unless others are asked for."""

    width: Annotated[Width, Field(description="Pixels. Default: the source's.")] | None = None  # type: ignore[assignment]
    height: Annotated[Height, Field(description="Pixels. Default: the source's.")] | None = None  # type: ignore[assignment]
    n_frames: Annotated[Frames, Field(description="30 per second. Default: the source's.")] | None = None  # type: ignore[assignment]


async def submit(studio: Studio, arguments: Paid, caller: Caller, operation: Operation, **parts: Any) -> Submission:
    """Submit what the arguments of a paid tool ask for; `parts` are the fields that only this tool has."""
    draft = arguments.request(operation, **parts)
    if caller.links is not None:
        from sora_mcp.tools.remote import check_images  # noqa: PLC0415 - most callers are on this machine

        await check_images(draft, caller.links)
    return await studio.submit(
        draft,
        dry_run=arguments.dry_run,
        allow_duplicate=arguments.allow_duplicate,
        confirm=caller.confirm,
        answers=caller.answers,
        board=caller.board_format,
        line=caller.line,
    )


def body_items(items: Sequence[Model]) -> list[InpaintItem]:
    """Return items in the form of the documented body. Raises InvalidInput for a video's id as an image."""
    problems = [
        Problem(f"inpaint_items[{i}].url", "is the id of a video", _allowed_for_id(item))
        for i, item in enumerate(items)
        if re.fullmatch(r"(task|gen)_[\w-]+(#\d+)?", str(getattr(item, "url", None) or "").strip())
    ]
    if problems:
        raise InvalidInput(problems)
    return [InpaintItem(**item.model_dump(exclude_none=True)) for item in items]


def _allowed_for_id(item: Model) -> str:
    return "the id as generation_id" if "generation_id" in type(item).model_fields else "the address of an image"
