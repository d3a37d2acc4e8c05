"""Blends as bridges: a picture of where the first video ends becomes the first frame of a new video, and a picture of
where the second begins becomes its last frame."""

from __future__ import annotations

from collections.abc import Iterator

from sora_mcp.core.capabilities import NOT_GIVEN, Adjustment
from sora_mcp.core.models import InpaintItem, VideoRequest
from sora_mcp.dialects.protocol import Need

PROMPT = "The first picture turns smoothly into the last."
"""The prompt of a bridge if the request has none."""


def frame_needs(request: VideoRequest, max_bytes: int) -> tuple[Need, ...]:
    """Return the pictures of frames that a bridge needs, each of `max_bytes` at most."""
    first, second = request.inpaint_items
    frames = (first.source_end_frame, second.source_start_frame or 0)
    return tuple(
        Need(i, "frame", frame, max_bytes)
        for i, (item, frame) in enumerate(zip((first, second), frames, strict=True))
        if item.generation_id is not None
    )


def adjustments(request: VideoRequest) -> list[Adjustment]:
    """Return the adjustments: what is sent in place of two videos."""
    bridge = [Adjustment("inpaint_items", "a blend", f"a bridge {_describe_bridge(*request.inpaint_items)}")]
    prompt = [] if request.prompt else [Adjustment("prompt", NOT_GIVEN, PROMPT)]
    return bridge + prompt


def _describe_bridge(first: InpaintItem, second: InpaintItem) -> str:
    end, start = first.source_end_frame, second.source_start_frame
    first_text = "the first image" if first.url else f"{_describe_frame(end, 'the last frame')} of the first video"
    second_text = "the second image" if second.url else f"{_describe_frame(start, 'the first frame')} of the second"
    return f"from {first_text} to {second_text}"


def _describe_frame(frame: int | None, default: str) -> str:
    return default if frame is None else f"frame {frame}"


def source_problems(item: InpaintItem, no_videos: str) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with the source of an item: field, reason, and an alternative. `no_videos`: why the upstream
    takes no videos; empty if it does."""
    if item.upload_media_id is not None:
        yield "upload_media_id", "takes no uploads", "the image's address or path, as url"
    if item.generation_id is not None and no_videos:
        yield "generation_id", no_videos, "an image, as url"
    if item.preset_id is not None:
        yield "preset_id", "has no presets", "leave it out"


def range_problems(item: InpaintItem) -> Iterator[tuple[str, str, str]]:
    """Yield the ranges of an item that can have none: field, reason, and an alternative."""
    for name in ("source_start_frame", "source_end_frame"):
        if getattr(item, name) is not None:
            yield name, "takes no ranges", "leave it out"


def bridge_range_problems(item: InpaintItem, number: int) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with the range of an item of a bridge: it can only have the end of the first video and the
    start of the second."""
    if item.url is not None:
        yield from range_problems(item)
    elif number == 0 and item.source_start_frame is not None:
        yield "source_start_frame", "takes one frame of the first video", "leave it out, or give source_end_frame"
    elif number == 1 and item.source_end_frame is not None:
        yield "source_end_frame", "takes one frame of the second video", "leave it out, or give source_start_frame"
