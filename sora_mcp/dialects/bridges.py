"""A blend as a bridge: a picture of where the first video ends becomes the first frame of a new one, and a picture of
where the second begins the last."""

from __future__ import annotations

from collections.abc import Iterator

from sora_mcp.core.capabilities import NOT_GIVEN, Adjustment
from sora_mcp.core.models import InpaintItem, VideoRequest
from sora_mcp.dialects.protocol import Need

PROMPT = "The first picture turns smoothly into the last."
"""The prompt of a bridge that was given none."""


def needs_of(request: VideoRequest, max_bytes: int) -> tuple[Need, ...]:
    """The pictures of frames that a bridge needs, each of `max_bytes` at most."""
    first, second = request.inpaint_items
    frames = (first.source_end_frame, second.source_start_frame or 0)
    return tuple(
        Need(i, "frame", frame, max_bytes)
        for i, (item, frame) in enumerate(zip((first, second), frames, strict=True))
        if item.generation_id is not None
    )


def adjusted_of(request: VideoRequest) -> list[Adjustment]:
    """What is sent in place of two videos."""
    bridge = [Adjustment("inpaint_items", "a blend", f"a bridge {_ends(*request.inpaint_items)}")]
    prompt = [] if request.prompt else [Adjustment("prompt", NOT_GIVEN, PROMPT)]
    return bridge + prompt


def _ends(first: InpaintItem, second: InpaintItem) -> str:
    end, start = first.source_end_frame, second.source_start_frame
    begins = "the first image" if first.url else f"{_at(end, 'the last frame')} of the first video"
    ends = "the second image" if second.url else f"{_at(start, 'the first frame')} of the second"
    return f"from {begins} to {ends}"


def _at(frame: int | None, otherwise: str) -> str:
    return otherwise if frame is None else f"frame {frame}"


def problems_of_source(item: InpaintItem, no_videos: str) -> Iterator[tuple[str, str, str]]:
    """What an item must not be made from: field, why, and what instead. `no_videos`: why it takes none, empty where it
    does."""
    if item.upload_media_id is not None:
        yield "upload_media_id", "takes no uploads", "the image's address or path, as url"
    if item.generation_id is not None and no_videos:
        yield "generation_id", no_videos, "an image, as url"
    if item.preset_id is not None:
        yield "preset_id", "has no presets", "leave it out"


def problems_of_ranges(item: InpaintItem) -> Iterator[tuple[str, str, str]]:
    """The ranges of an item, where it can have none: field, why, and what instead."""
    for name in ("source_start_frame", "source_end_frame"):
        if getattr(item, name) is not None:
            yield name, "takes no ranges", "leave it out"


def problems_of_ends(item: InpaintItem, number: int) -> Iterator[tuple[str, str, str]]:
    """What is wrong with the range of an item of a bridge: only where the first ends and where the second begins can be
    said."""
    if item.url is not None:
        yield from problems_of_ranges(item)
    elif number == 0 and item.source_start_frame is not None:
        yield "source_start_frame", "takes one frame of the first video", "leave it out, or give source_end_frame"
    elif number == 1 and item.source_end_frame is not None:
        yield "source_end_frame", "takes one frame of the second video", "leave it out, or give source_start_frame"
