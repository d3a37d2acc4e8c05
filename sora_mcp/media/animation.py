"""A conversation as one animation: each video below the prompt that made it, then its contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sora_mcp.media.extra import require

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT = 720, 450
"""Pixels."""
MAX_BYTES = 1_500_000
_HEADER_HEIGHT = 45
"""Pixels of the text at the top."""
_FRAMES_PER_SHOT, _FRAME_MS = 20, 120
"""Frames are spread over the whole video."""
_SHEET_MS = 2200
_QUALITIES = (85, 70, 50, 30)
"""WebP qualities (Pillow's); the first that fits is used."""


class Shot(Struct, frozen=True):
    """A tool call with its prompt, the video that it made, and the sheet that a second tool (`sheet_tool`) returned."""

    tool: str
    caption: str
    film: Path
    sheet: Path
    sheet_tool: str


def save_animation(shots: Sequence[Shot], target: Path) -> None:
    """Save a WebP of at most MAX_BYTES that loops forever. Raises NotConfigured."""
    require()
    pictures: list[Image.Image] = []
    durations: list[int] = []
    for shot in shots:
        for picture, milliseconds in _pictures(shot):
            pictures.append(picture)
            durations.append(milliseconds)
    if not pictures:
        return
    for quality in _QUALITIES:
        options = {"quality": quality, "method": 2, "duration": durations, "loop": 0}
        pictures[0].save(target, "WEBP", save_all=True, append_images=pictures[1:], **options)
        if target.stat().st_size <= MAX_BYTES:
            return


def _pictures(shot: Shot) -> Iterator[tuple[Image.Image, int]]:
    """Pictures with their durations in milliseconds."""
    from PIL import Image  # noqa: PLC0415

    for frame in _sample_frames(shot.film):
        yield _with_header(frame, shot.tool, shot.caption), _FRAME_MS
    with Image.open(shot.sheet) as sheet:
        yield _with_header(sheet.convert("RGB"), shot.sheet_tool, "what the model sees of it"), _SHEET_MS


def _sample_frames(film: Path) -> Iterator[Image.Image]:
    import av  # noqa: PLC0415

    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        step = max(1, stream.frames // _FRAMES_PER_SHOT)
        for index, frame in enumerate(container.decode(stream)):
            if index % step == 0:
                yield frame.to_image()  # type: ignore[no-untyped-call]


def _with_header(picture: Image.Image, tool: str, caption: str) -> Image.Image:
    from PIL import Image, ImageOps  # noqa: PLC0415

    from sora_mcp.media.drawing import BACKGROUND  # noqa: PLC0415
    from sora_mcp.media.typesetting import draw_text, text_width, truncate  # noqa: PLC0415

    canvas = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    middle = _HEADER_HEIGHT / 2
    draw_text(canvas, (14, middle), f"→ {tool}", 20, fill=(120, 200, 255, 255), anchor="lm")
    left = 14 + text_width(f"→ {tool} ", 20) + 10
    draw_text(
        canvas, (left, middle), truncate(caption, 17, WIDTH - left - 14), 17, fill=(205, 208, 216, 255), anchor="lm"
    )
    fitted = ImageOps.contain(picture, (WIDTH, HEIGHT - _HEADER_HEIGHT))
    canvas.paste(fitted, ((WIDTH - fitted.width) // 2, _HEADER_HEIGHT + (HEIGHT - _HEADER_HEIGHT - fitted.height) // 2))
    return canvas
