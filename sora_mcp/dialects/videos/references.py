"""What is sent with a request: images at the first and the last frame, and earlier videos as references."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from msgspec import Struct

from sora_mcp.core.capabilities import Adjustment, Images, Support
from sora_mcp.core.errors import Problem
from sora_mcp.core.models import InpaintItem, VideoRequest
from sora_mcp.dialects import bridges
from sora_mcp.dialects.protocol import CannotExpress, Need, Picture, SourceVideo
from sora_mcp.dialects.videos.profiles import Profile

MAX_PART_BYTES = 1_000_000
"""Bytes of the longest field of a form: Starlette, which these servers are built on, reads up to 1024 KiB."""
MAX_FRAME_BYTES = 350_000
"""Bytes of the largest picture of a frame: two of them, as base64, go into one field."""
_Files = dict[str, tuple[str, bytes, str]]


class Abilities(Struct, frozen=True):
    """What a type of server can do with one model: at which frames images may be, and what operations become."""

    images: Images
    remix: Support
    blend: Support
    image_is_reference: bool = False

    @classmethod
    def of(cls, profile: Profile, model: str | None) -> Abilities:
        """Return the abilities of a profile with this model."""
        family = profile.family(model)
        takes_last = family is not None and family.takes_last_image
        remix: Support = "exact" if profile.has_remix else "impossible"
        return cls(
            images="first_and_last" if takes_last else "first",
            remix="by_reference" if remix != "exact" and profile.takes_video(model) else remix,
            blend="bridged" if takes_last else "impossible",
            image_is_reference=family is not None and family.image_is_reference,
        )


def source_needs(request: VideoRequest, profile: Profile, abilities: Abilities) -> tuple[Need, ...]:
    """Return what has to be fetched from earlier videos before a request can be sent."""
    if request.operation == "remix" and abilities.remix == "by_reference":
        return (Need(None, "file", max_bytes=profile.video_bytes),)
    if request.operation != "blend":
        return ()
    return bridges.frame_needs(request, MAX_FRAME_BYTES)


def adjustments(
    request: VideoRequest, profile: Profile, abilities: Abilities, source: SourceVideo | None
) -> list[Adjustment]:
    """Return the adjustments: what is sent in place of earlier videos and of images."""
    if request.operation == "remix" and abilities.remix == "by_reference":
        caveat = "" if profile.video_models else "; a model that takes none ignores it"
        name = source.name if source is not None else "a video"
        return [Adjustment("source_generation_id", name, f"its file, as a reference{caveat}")]
    if request.operation == "blend":
        return bridges.adjustments(request)
    if abilities.image_is_reference and request.inpaint_items:
        return [Adjustment("inpaint_items", "an image at the first frame", "a reference for what is seen")]
    return []


def image_parts(request: VideoRequest, images: Mapping[int, Picture]) -> tuple[dict[str, str], _Files]:
    """Return the images of a request as fields and files of the form. Raises CannotExpress if two are too large."""
    first, last = _first_and_last(request, images)
    if first is not None and last is not None:
        pair = json.dumps([{"image_url": each.as_address} for each in (first, last)], ensure_ascii=False)
        if len(pair.encode()) > MAX_PART_BYTES:
            limit = f"{MAX_FRAME_BYTES / 1e6:g} MB each"
            raise CannotExpress("inpaint_items", "two images together are larger than the server's form takes", limit)
        return {"image_reference": pair}, {}
    image = first or last
    if image is None:
        return {}, {}
    last_frame = {"extra_params": json.dumps({"frame_indices": [-1]})} if first is None else {}
    return last_frame, {"input_reference": (image.name, image.content, image.mime_type)}


def _first_and_last(request: VideoRequest, images: Mapping[int, Picture]) -> tuple[Picture | None, Picture | None]:
    """Return the images at the first and at the last frame."""
    if request.operation == "blend":
        return images.get(0), images.get(1)
    items = request.inpaint_items
    first = next((picture for i, picture in images.items() if not items[i].frame_index), None)
    last = next((picture for i, picture in images.items() if items[i].frame_index), None)
    return first, last


_IMAGE_LIMITS: dict[Images, tuple[int, str, str]] = {
    "first": (1, "one image", "one image, at frame 0"),
    "first_and_last": (2, "two images", "one at the first and one at the last frame"),
}


def item_problems(request: VideoRequest, abilities: Abilities, server: str) -> Iterator[Problem]:
    """Yield what is wrong with the items of a request."""
    items, is_blend = request.inpaint_items, request.operation == "blend"
    limit, takes, instead = _IMAGE_LIMITS[abilities.images]
    if not is_blend and len(items) > limit:
        yield Problem("inpaint_items", f"{server} takes {takes}, not {len(items)}", instead)
    for i, item in enumerate(items):
        problems = [
            *bridges.source_problems(item, "" if is_blend else "takes no videos"),
            *(bridges.bridge_range_problems(item, i) if is_blend else bridges.range_problems(item)),
        ]
        if not is_blend:
            problems += _frame_problems(request, item, abilities)
        for name, reason, instead in problems:
            yield Problem(f"inpaint_items[{i}].{name}", f"{server} {reason}", instead)
    is_at_end = [bool(item.frame_index) for item in items]
    if not is_blend and len(items) == 2 and is_at_end[0] == is_at_end[1]:
        yield Problem("inpaint_items", "both stand at the same frame", f"frame_index 0 and {request.n_frames - 1}")


def _frame_problems(request: VideoRequest, item: InpaintItem, abilities: Abilities) -> Iterator[tuple[str, str, str]]:
    if abilities.images == "first_and_last" and item.frame_index and item.frame_index != request.n_frames - 1:
        reason = f"takes an image at the first and the last frame only, not at {item.frame_index}"
        yield "frame_index", reason, f"0 or {request.n_frames - 1}"
    elif abilities.images != "first_and_last" and item.frame_index:
        yield "frame_index", f"takes an image at the first frame only, not at {item.frame_index}", "0"
