"""The images and the video of a form, as the sandbox's `/v1/videos` takes and draws them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from sora_mcp.sandbox.faces import Face, FieldError

MAX_IMAGE_BYTES = 20_000_000
MAX_VIDEO_BYTES = 50_000_000
_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp"}


class Sent(Struct, frozen=True):
    """What came along with the fields: images at the first and the last frame, and a video to be changed."""

    first: bytes | None = None
    last: bytes | None = None
    video: bytes | None = None


def sent_of(face: Face, fields: Mapping[str, str], files: Mapping[str, bytes]) -> Sent:
    """What came along. Raises FieldError for what this kind of server does not take."""
    if unknown := set(files) - face.files:
        raise FieldError(422, "is no file of this form", min(unknown))
    video = files.get("video_reference")
    reference = files.get("input_reference")
    if reference is not None and _kind(reference) == "mp4" and face.takes_video:
        video, reference = reference, None
    if video is not None and (_kind(video) != "mp4" or len(video) > MAX_VIDEO_BYTES):
        raise FieldError(400, "is not a video of at most 50 MB", "video_reference")
    pair = _pair(fields.get("image_reference", ""))
    if pair and files:
        raise FieldError(400, "Provide only one of input_reference and image_reference.", "image_reference")
    images = pair or ([reference] if reference is not None else [])
    for image in images:
        if len(image) > MAX_IMAGE_BYTES or _kind(image) not in _KINDS.values():
            raise FieldError(400, "is not an image of at most 20 MB", "image_reference" if pair else "input_reference")
    if len(images) == 1 and _stands_last(fields.get("extra_params", "")):
        return Sent(last=images[0], video=video)
    return Sent(images[0] if images else None, images[1] if len(images) > 1 else None, video)


def drawn(sent: Sent, body: dict[str, Any], save: Callable[[str, bytes], str]) -> dict[str, Any]:
    """The documented body with what came along in it; `save` keeps a file (its kind, its bytes) and gives its id."""
    ids = {name: save(_kind(each), each) for name in ("first", "last", "video") if (each := getattr(sent, name))}
    if "video" in ids:
        return body | {"operation": "remix", "sdedit": {"source_upload_media_id": ids["video"]}}
    if len(ids) == 2:
        return body | {"operation": "blend", "inpaint_items": [{"upload_media_id": each} for each in ids.values()]}
    frames = {"first": 0, "last": body["n_frames"] - 1}
    items = [{"upload_media_id": each, "frame_index": frames[name]} for name, each in ids.items()]
    return body | {"inpaint_items": items}


def _pair(text: str) -> list[bytes]:
    """The images that `image_reference` names: one, or a list of two. Raises FieldError."""
    if not text:
        return []
    try:
        named = json.loads(text)
        addresses = [each["image_url"] for each in (named if isinstance(named, list) else [named])]
        images = [base64.b64decode(each.partition(";base64,")[2], validate=True) for each in addresses]
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        raise FieldError(400, "Invalid JSON in form field.", "image_reference") from None
    if not all(address.startswith("data:image") for address in addresses) or len(images) > 2:
        raise FieldError(400, "two images at most, as data: addresses in this sandbox", "image_reference")
    return images


def _stands_last(extra_params: str) -> bool:
    try:
        return bool(extra_params) and json.loads(extra_params).get("frame_indices") == [-1]
    except (ValueError, AttributeError):
        raise FieldError(400, "Invalid JSON in form field.", "extra_params") from None


def _kind(content: bytes) -> str:
    if content[4:8] == b"ftyp":
        return "mp4"
    return next((kind for start, kind in _KINDS.items() if content.startswith(start)), "")
