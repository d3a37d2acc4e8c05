"""The body of a create: the documented fields, with the values that the model accepts."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Literal

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sora_mcp.sandbox.openrouter.models import MODELS, VideoModel, pixels, size_of


class BadRequestError(Exception):
    """Answered with 400."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class _Address(_Part):
    url: Annotated[str, Field(pattern=r"^(https?://[^\s/]|data:[a-z]+/)")]


class _VideoAddress(_Part):
    url: Annotated[str, Field(pattern=r"^(https?://[^\s/]|data:[a-z]+/|file:///)")]


class FrameImage(_Part):
    """An image for the first or the last frame of the video."""

    type: Literal["image_url"]
    image_url: _Address
    frame_type: str


class ImageReference(_Part):
    """An image that guides the model."""

    type: Literal["image_url"]
    image_url: _Address


class VideoReference(_Part):
    """A video that guides the model, if the model uses one; other models ignore it."""

    type: Literal["video_url"]
    video_url: _VideoAddress


class AudioReference(_Part):
    """Audio that guides the model. No model here uses it."""

    type: Literal["audio_url"]
    audio_url: _Address


Reference = Annotated[ImageReference | VideoReference | AudioReference, Field(discriminator="type")]


class Create(_Part):
    """The documented fields of a create. `trace` and `provider` are accepted as they are."""

    model: str
    prompt: str | None = None
    duration: Annotated[int, Field(ge=1)] | None = None
    resolution: str | None = None
    aspect_ratio: str | None = None
    size: str | None = None
    frame_images: list[FrameImage] = []
    input_references: list[Reference] = []
    previous_job_id: str | None = None
    seed: int | None = None
    generate_audio: bool | None = None
    callback_url: Annotated[str, Field(pattern=r"^https://")] | None = None
    session_id: Annotated[str, Field(max_length=256)] | None = None
    user: str | None = None
    provider: dict[str, Any] | None = None
    trace: dict[str, Any] | None = None

    @property
    def images(self) -> list[tuple[str, str]]:
        """The images as (role, URL). References are ignored if there are frames."""
        frames = [(image.frame_type, image.image_url.url) for image in self.frame_images]
        references = [r.image_url.url for r in self.input_references if isinstance(r, ImageReference)]
        return frames or [("reference", url) for url in references]

    @property
    def videos(self) -> list[str]:
        """The URLs of reference videos."""
        return [r.video_url.url for r in self.input_references if isinstance(r, VideoReference)]


def parse_create(data: Any) -> tuple[Create, VideoModel]:
    """Parse and check a body; return it with its model. Raises BadRequestError if either rules it out."""
    try:
        create = Create.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadRequestError(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None
    model = MODELS.get(create.model)
    if model is None:
        raise BadRequestError(f"{create.model[:100]} is not a valid model ID")
    _check_content(create, model)
    return create, model


class Shape(Struct, frozen=True):
    """The size of a video in pixels, and its duration in seconds."""

    width: int
    height: int
    seconds: int


def shape_for(create: Create, model: VideoModel, source: Shape | None) -> Shape:
    """The shape that a create asks for; what it leaves open is that of its source if the model supports it, else the
    model's default. Raises BadRequestError for values that the model does not list."""
    seconds, size = create.duration, _size(create, model)
    if seconds is not None:
        _require_listed("duration", seconds, model.durations)
    elif source is not None and source.seconds in model.durations:
        seconds = source.seconds
    if size is None and source is not None and (source.width, source.height) in model.all_sizes:
        size = (source.width, source.height)
    return Shape(*(size or model.size), seconds or model.duration)


def dollars(create: Create, model: VideoModel, shape: Shape) -> float:
    """The cost of a video."""
    has_audio = bool(model.generate_audio) if create.generate_audio is None else create.generate_audio
    return model.dollars(shape.seconds, min(shape.width, shape.height), has_audio)


def _check_content(create: Create, model: VideoModel) -> None:
    """Check the prompt, images, previous job, audio and seed."""
    if not (create.prompt or "").strip() and (model.needs_prompt or not create.images):
        raise BadRequestError("prompt: required by this model")
    for image in create.frame_images:
        _require_listed("frame_images.frame_type", image.frame_type, model.frame_images)
    if len({image.frame_type for image in create.frame_images}) != len(create.frame_images):
        raise BadRequestError("frame_images: one image at most for each frame_type")
    if create.previous_job_id is not None and not model.has_continuation:
        raise BadRequestError("previous_job_id: this model does not support continuation")
    if create.generate_audio and model.generate_audio is False:
        raise BadRequestError("generate_audio: not supported by this model")
    if create.seed is not None and model.seed is False:
        raise BadRequestError("seed: not supported by this model")


def _size(create: Create, model: VideoModel) -> tuple[int, int] | None:
    if create.size is not None:
        if create.resolution is not None or create.aspect_ratio is not None:
            raise BadRequestError("size: give either size, or resolution and aspect_ratio")
        _require_listed("size", create.size, model.sizes)
        return size_of(create.size)
    if create.resolution is None and create.aspect_ratio is None:
        return None
    resolution = create.resolution or f"{min(model.size)}p"
    aspect_ratio = create.aspect_ratio or "16:9"
    _require_listed("resolution", resolution, model.resolutions)
    _require_listed("aspect_ratio", aspect_ratio, model.aspect_ratios)
    return pixels(resolution, aspect_ratio)


def _require_listed(field: str, value: object, allowed: tuple[object, ...] | None) -> None:
    if value not in (allowed or ()):
        alternatives = f"one of {', '.join(map(str, allowed))}" if allowed else "not supported by this model"
        raise BadRequestError(f"{field}: {str(value)[:100]} is not accepted; {alternatives}")


def decode_picture(url: str) -> tuple[str, bytes] | None:
    """Decode the image in a `data:` URL to its file suffix and content; None for any other URL.

    Raises BadRequestError if there is no image in it.
    """
    if not url.startswith("data:"):
        return None
    head, _, text = url.partition(",")
    match = re.fullmatch(r"data:image/(png|jpeg|webp);base64", head)
    try:
        content = base64.b64decode(text, validate=True) if match else b""
    except binascii.Error:
        content = b""
    signatures = {"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
    if match is None or not content.startswith(signatures[match[1]]):
        raise BadRequestError("image_url: not a PNG, JPEG or WebP image in base64")
    return match[1].replace("jpeg", "jpg"), content
