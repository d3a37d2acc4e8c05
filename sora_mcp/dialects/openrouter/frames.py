"""The images of a request in OpenRouter's words: at the first or the last frame, or as references."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from sora_mcp.core.capabilities import Adjustment, ModelOffer
from sora_mcp.core.errors import Problem
from sora_mcp.core.models import InpaintItem, VideoRequest
from sora_mcp.dialects.protocol import Picture

FIRST, LAST = "first_frame", "last_frame"
_NAMES = {FIRST: "first", LAST: "last"}


def frame_type(item: InpaintItem) -> str | None:
    """Where an image stands; None for one that goes as a reference, since no frame is named for it."""
    if item.frame_index is None:
        return None
    return FIRST if item.frame_index == 0 else LAST


def problems(request: VideoRequest, offer: ModelOffer) -> Iterator[Problem]:
    """What of the images has no words there."""
    taken: set[str] = set()
    for i, item in enumerate(request.inpaint_items):
        at = f"inpaint_items[{i}]"
        yield from (Problem(f"{at}.{name}", f"OpenRouter {why}", instead) for name, why, instead in _of_item(item))
        kind, last = frame_type(item), request.n_frames - 1
        if kind is None:
            continue
        if item.frame_index not in {0, last}:
            wrong = f"OpenRouter takes images at the first and the last frame only, not at {item.frame_index}"
            yield Problem(f"{at}.frame_index", wrong, f"0 or {last}")
        elif offer.frame_images is not None and kind not in offer.frame_images:
            yield Problem(
                f"{at}.frame_index", f"{offer.id} takes no image at the {_NAMES[kind]} frame", _else(offer, last)
            )
        elif kind in taken:
            yield Problem(f"{at}.frame_index", f"another image stands at the {_NAMES[kind]} frame", f"0 or {last}")
        taken.add(kind)


def _of_item(item: InpaintItem) -> Iterator[tuple[str, str, str]]:
    if item.upload_media_id is not None:
        yield "upload_media_id", "takes no uploads", "the image's address or path, as url"
    if item.generation_id is not None:
        yield "generation_id", "takes no videos among the images", "an image, as url, or remix_video"
    if item.preset_id is not None:
        yield "preset_id", "has no presets", "leave it out"
    for name in ("source_start_frame", "source_end_frame"):
        if getattr(item, name) is not None:
            yield name, "takes no ranges", "leave it out"


def _else(offer: ModelOffer, last: int) -> str:
    allowed = [str({FIRST: 0, LAST: last}[kind]) for kind in (FIRST, LAST) if kind in (offer.frame_images or ())]
    return " or ".join([*allowed, "none, and the image goes as a reference"])


def fields(request: VideoRequest, images: Mapping[int, Picture]) -> dict[str, Any]:
    """What is sent for the images. One that is a file here goes as it is, inside the request."""
    framed: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    for i, item in enumerate(request.inpaint_items):
        image = {"type": "image_url", "image_url": {"url": _address(item, images.get(i))}}
        kind = frame_type(item)
        if kind is None:
            references.append(image)
        else:
            framed.append(image | {"frame_type": kind})
    named = {"frame_images": framed, "input_references": references}
    return {name: value for name, value in named.items() if value}


def adjusted(request: VideoRequest) -> tuple[Adjustment, ...]:
    """That images without a frame become references."""
    count = sum(item.frame_index is None for item in request.inpaint_items)
    if not count:
        return ()
    asked = "1 image without a frame_index" if count == 1 else f"{count} images without a frame_index"
    sent = "1 reference" if count == 1 else f"{count} references"
    return (Adjustment("inpaint_items", asked, f"{sent} (frame_index 0 makes one the first frame)"),)


def _address(item: InpaintItem, picture: Picture | None) -> str:
    if picture is None:
        return item.url or ""
    if not picture.content:  # what would be sent is only shown
        return picture.name
    return f"data:{picture.mime_type};base64,{base64.b64encode(picture.content).decode('ascii')}"
