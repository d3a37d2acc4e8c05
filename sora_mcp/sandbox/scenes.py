"""Conversion of a request to the scene that the sandbox draws for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sora_mcp.core.models import InpaintItem, VideoRequest
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import clean

if TYPE_CHECKING:
    from sora_mcp.media.render import Card, Clip, Scene

FindVideo = Callable[[str], Path]
"""Maps a generation id to its file."""
FindUpload = Callable[[str], Path | None]
"""Maps a media id to its file, or None."""


def scene_for(request: VideoRequest, variant: int, video: FindVideo, upload: FindUpload, fps: int = FPS) -> Scene:
    """The scene for a request: captions from actions, cards from items, clips from the sources of a remix or blend."""
    from sora_mcp.media.render import Card, Clip, Scene  # noqa: PLC0415 - loads PyAV and Pillow

    def source(item: InpaintItem) -> Card | Clip:
        if item.generation_id is not None and request.operation == "blend":
            return Clip(video(item.generation_id), item.source_start_frame or 0, item.source_end_frame)
        frame, still = item.frame_index or 0, item.source_start_frame or 0
        if item.generation_id is not None:
            return Card(frame, item.generation_id, video(item.generation_id), still)
        if item.upload_media_id is not None:
            return Card(frame, item.upload_media_id, upload(item.upload_media_id))
        name = urlsplit(item.url or "").path.rpartition("/")[2]
        return Card(frame, urlsplit(item.url or "").netloc, upload(name.partition(".")[0]) if name else None)

    clips: tuple[Clip | Card, ...] = ()
    edit = request.sdedit
    if request.operation == "blend":
        clips = tuple(source(item) for item in request.inpaint_items)
    elif edit is not None and edit.source_generation_id is not None:
        clips = (Clip(video(edit.source_generation_id)),)
    elif edit is not None and edit.source_upload_media_id is not None:
        path = upload(edit.source_upload_media_id)
        is_video = path is not None and path.suffix == ".mp4"
        clips = (Clip(path) if is_video and path else Card(0, edit.source_upload_media_id, path),)
    cards = [] if request.operation == "blend" else [source(item) for item in request.inpaint_items]
    return Scene(
        width=request.width,
        height=request.height,
        n_frames=request.n_frames,
        prompt=clean(request.prompt or ("One into the other" if request.operation == "blend" else ""), 300),
        variant=variant,
        captions=tuple((action.time, clean(action.description, 200)) for action in request.actions or []),
        cards=tuple(card for card in cards if isinstance(card, Card)),
        clips=clips,
        amount=edit.amount if edit is not None and edit.amount is not None else 4.0,
        fps=fps,
    )
