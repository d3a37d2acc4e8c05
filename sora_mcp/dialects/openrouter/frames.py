"""Images and earlier videos in OpenRouter's words: at the first or the last frame, as references, as what goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sora_mcp.core.capabilities import Adjustment, Images, ModelOffer, Support
from sora_mcp.core.errors import Problem
from sora_mcp.core.models import InpaintItem, VideoRequest
from sora_mcp.dialects import bridges
from sora_mcp.dialects.protocol import Need, Picture, SourceVideo

FIRST, LAST = "first_frame", "last_frame"
MOST_FRAME_BYTES = 4_000_000
"""Of the picture of a frame, two of which go into one body."""
_NAMES = {FIRST: "first", LAST: "last"}


def images_of(offer: ModelOffer) -> Images:
    """Where images may stand with a model; anywhere they may be references."""
    listed = set(offer.frame_images or ()) if offer.frame_images is not None else {FIRST, LAST}
    return "first_and_last" if LAST in listed else "first" if FIRST in listed else "references"


def remix_of(offer: ModelOffer) -> Support:
    """What a remix becomes with a model. One that is not known to watch videos may ignore them, and would be paid."""
    if offer.continues:
        return "exact"
    return "by_reference" if offer.takes_videos else "impossible"


def blend_of(offer: ModelOffer) -> Support:
    """What a blend becomes with a model."""
    return "bridged" if {FIRST, LAST} <= set(offer.frame_images or ()) else "impossible"


def needs_of(request: VideoRequest, offer: ModelOffer) -> tuple[Need, ...]:
    """What has to be got of earlier videos before a request can be sent."""
    if request.operation == "remix" and remix_of(offer) == "by_reference":
        return (Need(None, "address"),)
    return bridges.needs_of(request, MOST_FRAME_BYTES) if request.operation == "blend" else ()


def adjusted_of(request: VideoRequest, offer: ModelOffer, source: SourceVideo | None) -> list[Adjustment]:
    """What is sent in place of earlier videos, and that images without a frame become references."""
    if request.operation == "blend":
        return bridges.adjusted_of(request)
    if request.operation == "remix":
        name = source.name if source is not None else "a video"
        sent = "its address, as a reference"
        return [Adjustment("source_generation_id", name, sent)] if remix_of(offer) == "by_reference" else []
    count = sum(item.frame_index is None for item in request.inpaint_items)
    if not count:
        return []
    asked, sent = ("1 image", "1 reference") if count == 1 else (f"{count} images", f"{count} references")
    hint = "frame_index 0 makes one the first frame"
    return [Adjustment("inpaint_items", f"{asked} without a frame_index", f"{sent} ({hint})")]


def fields(request: VideoRequest, images: Mapping[int, Picture], source: SourceVideo | None) -> dict[str, Any]:
    """What is sent for images and earlier videos. What is a file here goes as it is, inside the request."""
    framed: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    for i, item in enumerate(request.inpaint_items):
        picture = images.get(i)
        address = item.url or "" if picture is None else picture.as_address
        image = {"type": "image_url", "image_url": {"url": address}}
        kind = (FIRST, LAST)[i] if request.operation == "blend" else _frame_type(item)
        if kind is None:
            references.append(image)
        else:
            framed.append(image | {"frame_type": kind})
    if source is not None:
        references.append({"type": "video_url", "video_url": {"url": source.as_address}})
    named = {"frame_images": framed, "input_references": references}
    return {name: value for name, value in named.items() if value}


def problems(request: VideoRequest, offer: ModelOffer) -> Iterator[Problem]:
    """What of images and earlier videos has no words there."""
    is_blend = request.operation == "blend"
    no_videos = "" if is_blend else "takes no videos among the images"
    for i, item in enumerate(request.inpaint_items):
        of_range = bridges.problems_of_ends(item, i) if is_blend else bridges.problems_of_ranges(item)
        for name, why, instead in [*bridges.problems_of_source(item, no_videos), *of_range]:
            yield Problem(f"inpaint_items[{i}].{name}", f"OpenRouter {why}", instead)
    if not is_blend:
        yield from _of_frames(request, offer)


def _of_frames(request: VideoRequest, offer: ModelOffer) -> Iterator[Problem]:
    taken: set[str] = set()
    last = request.n_frames - 1
    for i, item in enumerate(request.inpaint_items):
        at, kind = f"inpaint_items[{i}].frame_index", _frame_type(item)
        if kind is None:
            continue
        if item.frame_index not in {0, last}:
            wrong = f"OpenRouter takes images at the first and the last frame only, not at {item.frame_index}"
            yield Problem(at, wrong, f"0 or {last}")
        elif offer.frame_images is not None and kind not in offer.frame_images:
            yield Problem(at, f"{offer.id} takes no image at the {_NAMES[kind]} frame", _else(offer, last))
        elif kind in taken:
            yield Problem(at, f"another image stands at the {_NAMES[kind]} frame", f"0 or {last}")
        taken.add(kind)


def _else(offer: ModelOffer, last: int) -> str:
    allowed = [str({FIRST: 0, LAST: last}[kind]) for kind in (FIRST, LAST) if kind in (offer.frame_images or ())]
    return " or ".join([*allowed, "none, and the image goes as a reference"])


def _frame_type(item: InpaintItem) -> str | None:
    """Where an image stands; None for one that goes as a reference, since no frame is named for it."""
    if item.frame_index is None:
        return None
    return FIRST if item.frame_index == 0 else LAST
