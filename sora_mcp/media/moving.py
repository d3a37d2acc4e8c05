"""A conversation as one moving picture: each film under the words that made it, then the sheet that was seen of it."""

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
MOST_BYTES = 1_500_000
_HEAD = 45
"""Pixels of the words at the top."""
_FRAMES, _FRAME_MS = 20, 120
"""Of each film, spread over all of it."""
_SHEET_MS = 2200
_QUALITIES = (85, 70, 50, 30)
"""Qualities of a WebP (Pillow's); the first that fits is taken."""


class Shot(Struct, frozen=True):
    """A tool with what it was asked, the film that came of it, and the sheet that a second tool (`seen_with`) gave."""

    tool: str
    words: str
    film: Path
    sheet: Path
    seen_with: str


def save_moving(shots: Sequence[Shot], target: Path) -> None:
    """Save it as a WebP of at most MOST_BYTES that goes on for ever. Raises NotConfigured."""
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
        if target.stat().st_size <= MOST_BYTES:
            return


def _pictures(shot: Shot) -> Iterator[tuple[Image.Image, int]]:
    """Pictures with how long each is shown, in milliseconds."""
    from PIL import Image  # noqa: PLC0415

    for frame in _stills(shot.film):
        yield _under_words(frame, shot.tool, shot.words), _FRAME_MS
    with Image.open(shot.sheet) as sheet:
        yield _under_words(sheet.convert("RGB"), shot.seen_with, "what the model sees of it"), _SHEET_MS


def _stills(film: Path) -> Iterator[Image.Image]:
    import av  # noqa: PLC0415

    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        step = max(1, stream.frames // _FRAMES)
        for index, frame in enumerate(container.decode(stream)):
            if index % step == 0:
                yield frame.to_image()  # type: ignore[no-untyped-call]


def _under_words(picture: Image.Image, tool: str, words: str) -> Image.Image:
    from PIL import Image, ImageOps  # noqa: PLC0415

    from sora_mcp.media.drawing import PAPER  # noqa: PLC0415
    from sora_mcp.media.letters import cut, text_width, write  # noqa: PLC0415

    paper = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    middle = _HEAD / 2
    write(paper, (14, middle), f"→ {tool}", 20, fill=(120, 200, 255, 255), anchor="lm")
    left = 14 + text_width(f"→ {tool} ", 20) + 10
    write(paper, (left, middle), cut(words, 17, WIDTH - left - 14), 17, fill=(205, 208, 216, 255), anchor="lm")
    shown = ImageOps.contain(picture, (WIDTH, HEIGHT - _HEAD))
    paper.paste(shown, ((WIDTH - shown.width) // 2, _HEAD + (HEIGHT - _HEAD - shown.height) // 2))
    return paper
