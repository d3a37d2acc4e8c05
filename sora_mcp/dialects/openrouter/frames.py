"""Images and earlier videos in OpenRouter's fields: as the first or the last frame, as references, or continued."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sora_mcp.core.capabilities import Adjustment, Images, ModelOffer, Support
from sora_mcp.core.errors import Problem
from sora_mcp.core.models import InpaintItem, VideoRequest
from sora_mcp.dialects import bridges
from sora_mcp.dialects.protocol import Need, Picture, SourceVideo

FIRST, LAST = "first_frame", "last_frame"
MAX_FRAME_BYTES = 4_000_000
"""Bytes of the picture of a frame, two of which go into one body."""
_FRAME_NAMES = {FIRST: "first", LAST: "last"}


def image_support(offer: ModelOffer) -> Images:
    """Return the frames at which a model takes images; every model may take them as references."""
    listed = set(offer.frame_images or ()) if offer.frame_images is not None else {FIRST, LAST}
    return "first_and_last" if LAST in listed else "first" if FIRST in listed else "references"


def remix_support(offer: ModelOffer) -> Support:
    """Return what a remix becomes with a model. One not known to take videos may ignore them, and would be paid."""
    if offer.continues:
        return "exact"
    return "by_reference" if offer.takes_videos else "impossible"


def blend_support(offer: ModelOffer) -> Support:
    """Return what a blend becomes with a model."""
    return "bridged" if {FIRST, LAST} <= set(offer.frame_images or ()) else "impossible"


def source_needs(request: VideoRequest, offer: ModelOffer) -> tuple[Need, ...]:
    """Return what has to be fetched from earlier videos before a request can be sent."""
    if request.operation == "remix" and remix_support(offer) == "by_reference":
        return (Need(None, "address"),)
    return bridges.frame_needs(request, MAX_FRAME_BYTES) if request.operation == "blend" else ()


def adjustments(request: VideoRequest, offer: ModelOffer, source: SourceVideo | None) -> list[Adjustment]:
    """Return the adjustments: what replaces earlier videos, and that images without a frame become references."""
    if request.operation == "blend":
        return bridges.adjustments(request)
    if request.operation == "remix":
        name = source.name if source is not None else "a video"
        after = "its address, as a reference"
        return [Adjustment("source_generation_id", name, after)] if remix_support(offer) == "by_reference" else []
    count = sum(item.frame_index is None for item in request.inpaint_items)
    if not count:
        return []
    before, after = ("1 image", "1 reference") if count == 1 else (f"{count} images", f"{count} references")
    hint = "frame_index 0 makes one the first frame"
    return [Adjustment("inpaint_items", f"{before} without a frame_index", f"{after} ({hint})")]


def fields(request: VideoRequest, images: Mapping[int, Picture], source: SourceVideo | None) -> dict[str, Any]:
    """Return the fields for images and earlier videos. A local file is sent as it is, inside the request."""
    framed: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    for i, item in enumerate(request.inpaint_items):
        picture = images.get(i)
        address = item.url or "" if picture is None else picture.as_address
        image = {"type": "image_url", "image_url": {"url": address}}
        frame_type = (FIRST, LAST)[i] if request.operation == "blend" else _frame_type(item)
        if frame_type is None:
            references.append(image)
        else:
            framed.append(image | {"frame_type": frame_type})
    if source is not None:
        references.append({"type": "video_url", "video_url": {"url": source.as_address}})
    image_fields = {"frame_images": framed, "input_references": references}
    return {name: value for name, value in image_fields.items() if value}


def problems(request: VideoRequest, offer: ModelOffer) -> Iterator[Problem]:
    """Yield what cannot be expressed of images and earlier videos."""
    is_blend = request.operation == "blend"
    no_videos = "" if is_blend else "takes no videos among the images"
    for i, item in enumerate(request.inpaint_items):
        ranges = bridges.bridge_range_problems(item, i) if is_blend else bridges.range_problems(item)
        for name, reason, instead in [*bridges.source_problems(item, no_videos), *ranges]:
            yield Problem(f"inpaint_items[{i}].{name}", f"OpenRouter {reason}", instead)
    if not is_blend:
        yield from _frame_problems(request, offer)


def _frame_problems(request: VideoRequest, offer: ModelOffer) -> Iterator[Problem]:
    occupied: set[str] = set()
    last = request.n_frames - 1
    for i, item in enumerate(request.inpaint_items):
        field, frame_type = f"inpaint_items[{i}].frame_index", _frame_type(item)
        if frame_type is None:
            continue
        if item.frame_index not in {0, last}:
            problem = f"OpenRouter takes images at the first and the last frame only, not at {item.frame_index}"
            yield Problem(field, problem, f"0 or {last}")
        elif offer.frame_images is not None and frame_type not in offer.frame_images:
            yield Problem(
                field, f"{offer.id} takes no image at the {_FRAME_NAMES[frame_type]} frame", _alternatives(offer, last)
            )
        elif frame_type in occupied:
            yield Problem(field, f"another image stands at the {_FRAME_NAMES[frame_type]} frame", f"0 or {last}")
        occupied.add(frame_type)


def _alternatives(offer: ModelOffer, last: int) -> str:
    allowed = [
        str({FIRST: 0, LAST: last}[frame_type])
        for frame_type in (FIRST, LAST)
        if frame_type in (offer.frame_images or ())
    ]
    return " or ".join([*allowed, "none, and the image goes as a reference"])


def _frame_type(item: InpaintItem) -> str | None:
    """Return the frame type of an image; None for a reference, which has no frame_index."""
    if item.frame_index is None:
        return None
    return FIRST if item.frame_index == 0 else LAST
