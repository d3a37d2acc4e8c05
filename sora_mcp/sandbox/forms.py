"""The images and the video attached to a form of the sandbox's `/v1/videos`."""

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
_SIGNATURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp"}


class Attachments(Struct, frozen=True):
    """Files sent with the fields: images for the first and the last frame, and a video to change."""

    first: bytes | None = None
    last: bytes | None = None
    video: bytes | None = None


def read_attachments(face: Face, fields: Mapping[str, str], files: Mapping[str, bytes]) -> Attachments:
    """Collect and check the attachments. Raises FieldError for what this kind of server does not accept."""
    if unknown := set(files) - face.files:
        raise FieldError(422, "is no file of this form", min(unknown))
    video = files.get("video_reference")
    reference = files.get("input_reference")
    if reference is not None and _file_type(reference) == "mp4" and face.takes_video:
        video, reference = reference, None
    if video is not None and (_file_type(video) != "mp4" or len(video) > MAX_VIDEO_BYTES):
        raise FieldError(400, "is not a video of at most 50 MB", "video_reference")
    named_images = _reference_images(fields.get("image_reference", ""))
    if named_images and files:
        raise FieldError(400, "Provide only one of input_reference and image_reference.", "image_reference")
    images = named_images or ([reference] if reference is not None else [])
    for image in images:
        if len(image) > MAX_IMAGE_BYTES or _file_type(image) not in _SIGNATURES.values():
            raise FieldError(
                400, "is not an image of at most 20 MB", "image_reference" if named_images else "input_reference"
            )
    if len(images) == 1 and _is_last_frame(fields.get("extra_params", "")):
        return Attachments(last=images[0], video=video)
    return Attachments(images[0] if images else None, images[1] if len(images) > 1 else None, video)


def with_attachments(
    attachments: Attachments, body: dict[str, Any], save: Callable[[str, bytes], str]
) -> dict[str, Any]:
    """Add the attachments to a documented body; `save` stores a file (its type, its bytes) and returns its id."""
    ids = {
        name: save(_file_type(file), file)
        for name in ("first", "last", "video")
        if (file := getattr(attachments, name))
    }
    if "video" in ids:
        return body | {"operation": "remix", "sdedit": {"source_upload_media_id": ids["video"]}}
    if len(ids) == 2:
        return body | {"operation": "blend", "inpaint_items": [{"upload_media_id": file} for file in ids.values()]}
    frames = {"first": 0, "last": body["n_frames"] - 1}
    items = [{"upload_media_id": file, "frame_index": frames[name]} for name, file in ids.items()]
    return body | {"inpaint_items": items}


def _reference_images(text: str) -> list[bytes]:
    """Decode the images in `image_reference`: one, or a list of two. Raises FieldError."""
    if not text:
        return []
    try:
        document = json.loads(text)
        addresses = [file["image_url"] for file in (document if isinstance(document, list) else [document])]
        images = [base64.b64decode(file.partition(";base64,")[2], validate=True) for file in addresses]
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        raise FieldError(400, "Invalid JSON in form field.", "image_reference") from None
    if not all(address.startswith("data:image") for address in addresses) or len(images) > 2:
        raise FieldError(400, "two images at most, as data: addresses in this sandbox", "image_reference")
    return images


def _is_last_frame(extra_params: str) -> bool:
    try:
        return bool(extra_params) and json.loads(extra_params).get("frame_indices") == [-1]
    except (ValueError, AttributeError):
        raise FieldError(400, "Invalid JSON in form field.", "extra_params") from None


def _file_type(content: bytes) -> str:
    if content[4:8] == b"ftyp":
        return "mp4"
    return next((file_type for signature, file_type in _SIGNATURES.items() if content.startswith(signature)), "")
