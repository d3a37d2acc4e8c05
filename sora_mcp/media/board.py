"""A picture of a storyboard before anything is rendered: a time line, and a card for each beat and each image.

Pillow is loaded when first needed, in the process that `viewer` starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sora_mcp.core.pictures import MAX_STILLS, PictureFormat
from sora_mcp.core.tables import FPS
from sora_mcp.media.encoding import MAX_SHEET_BYTES, encode
from sora_mcp.media.film import read_film
from sora_mcp.media.layout import MAX_WIDTH, Layout, Place, arrange
from sora_mcp.media.unviewable import MAX_SIDE, Unviewable

if TYPE_CHECKING:
    from PIL import Image

Rgb = tuple[int, int, int]

MAX_CARDS = MAX_STILLS
"""Cards drawn on one board; the rest are only counted."""
MAX_IMAGE_PIXELS = 50_000_000
"""Larger images are not drawn."""


class BoardCard(Struct, frozen=True):
    """A beat, or an image or video placed in the storyboard. It begins at `frame`; None if the gateway decides.

    `mark` is its number or letter, `words` its description. `path` is the image file, or a video of which the frame
    `still` is drawn.
    """

    mark: str
    words: str
    frame: int | None = None
    path: str | None = None
    still: int = 0
    is_beat: bool = False

    @property
    def start_label(self) -> str:
        """The start, as printed on the card."""
        return "no set time" if self.frame is None else f"{self.frame / FPS:.2f} s · frame {self.frame}"


class Board(Struct, frozen=True):
    """A storyboard: the size of its video in pixels, its length in frames (30 per second; None if unknown), and its
    cards in order."""

    prompt: str
    width: int
    height: int
    n_frames: int | None
    cards: tuple[BoardCard, ...]

    @property
    def end_frame(self) -> int:
        """The frame at which the time line ends: one second after the last card begins if the length is unknown."""
        return self.n_frames or max((card.frame or 0 for card in self.cards), default=0) + FPS


_TEXT_SIZE = 18
_MARGIN = 12
_TIMELINE_TOP, _TIMELINE_HEIGHT = 96, 34
_HEADER_HEIGHT = 168
"""Pixels above the cards."""
_COLOURS: tuple[Rgb, ...] = (
    (54, 98, 140),
    (140, 82, 54),
    (66, 116, 82),
    (118, 74, 128),
    (138, 116, 48),
    (70, 110, 120),
)
_GAP_COLOUR: Rgb = (52, 54, 62)
_CARD_COLOUR: Rgb = (236, 200, 96)
_CARD_INK = (*_CARD_COLOUR, 255)


def draw(board: Board, picture_format: PictureFormat = "jpeg") -> bytes:
    """Draw a board; a JPEG has at most MAX_SHEET_BYTES. A card whose image cannot be read shows its description."""
    from PIL import Image  # noqa: PLC0415

    from sora_mcp.media.drawing import BACKGROUND  # noqa: PLC0415

    cards = board.cards[:MAX_CARDS]
    shape = (max(board.width, MAX_WIDTH), round(max(board.width, MAX_WIDTH) * board.height / board.width))
    layout = arrange([shape], len(cards), 2 * round(1.4 * _TEXT_SIZE) + 6)
    canvas = Image.new("RGB", (max(layout.width, 900), layout.height + _HEADER_HEIGHT), BACKGROUND)
    _draw_header(canvas, board)
    _draw_timeline(canvas, board)
    _draw_cards(canvas, cards, layout)
    return encode(canvas, picture_format, MAX_SHEET_BYTES, 1024)


def _draw_header(canvas: Image.Image, board: Board) -> None:
    from sora_mcp.media.compositing import GREY  # noqa: PLC0415
    from sora_mcp.media.typesetting import draw_text, truncate  # noqa: PLC0415

    n_hidden = len(board.cards) - MAX_CARDS
    shape = f"{board.width}x{board.height}"
    shape += f" · {board.n_frames / FPS:g} s · {board.n_frames} frames" if board.n_frames else " · length not known"
    title = f"PLAN, nothing is made yet · {shape}" + (f" · {n_hidden} more not shown" if n_hidden > 0 else "")
    width = canvas.width - 2 * _MARGIN
    draw_text(canvas, (_MARGIN, 10), truncate(title, 26, width), 26)
    if board.prompt:
        draw_text(canvas, (_MARGIN, 50), truncate(board.prompt, _TEXT_SIZE, width), _TEXT_SIZE, fill=GREY)


def _draw_timeline(canvas: Image.Image, board: Board) -> None:
    """Draw the time line: the span of each beat, and a marker for each placed image."""
    from PIL import ImageDraw  # noqa: PLC0415

    from sora_mcp.media.compositing import GREY  # noqa: PLC0415
    from sora_mcp.media.typesetting import draw_text  # noqa: PLC0415

    pen, width, end_frame = ImageDraw.Draw(canvas), canvas.width, board.end_frame

    def x_of(frame: int) -> int:
        return _MARGIN + round((width - 2 * _MARGIN) * min(frame, end_frame) / end_frame)

    top, bottom = _TIMELINE_TOP, _TIMELINE_TOP + _TIMELINE_HEIGHT
    pen.rectangle((x_of(0), top, x_of(end_frame), bottom), fill=_GAP_COLOUR)
    beats = [card for card in board.cards if card.is_beat]
    ends = [*(card.frame or 0 for card in beats[1:]), end_frame]
    for number, (card, end) in enumerate(zip(beats, ends, strict=False)):
        left = x_of(card.frame or 0)
        pen.rectangle((left, top, max(left + 1, x_of(end) - 2), bottom), fill=_COLOURS[number % len(_COLOURS)])
        if x_of(end) - left > 10 + 10 * len(card.mark):
            draw_text(canvas, (left + 6, top + 6), card.mark, 20)
    for card in board.cards:
        if not card.is_beat and card.frame is not None:
            x = x_of(card.frame)
            pen.polygon([(x - 8, top - 6), (x + 8, top - 6), (x, top + 8)], fill=_CARD_COLOUR)
            draw_text(canvas, (x + 11, top - 20), card.mark, 16, fill=_CARD_INK)
    seconds = end_frame // FPS
    step = next(step for step in (1, 2, 5, 10, 30, 60, max(60, seconds)) if seconds / step <= 16)
    for second in range(0, seconds + 1, step):
        x = x_of(second * FPS)
        pen.line((x, bottom, x, bottom + 6), fill=GREY)
        anchor = "la" if second == 0 else "ra" if second * FPS == end_frame else "ma"
        draw_text(canvas, (x, bottom + 9), f"{second} s", 15, fill=GREY, anchor=anchor)


def _draw_cards(canvas: Image.Image, cards: Sequence[BoardCard], layout: Layout) -> None:
    from PIL import ImageDraw  # noqa: PLC0415

    from sora_mcp.media.compositing import GREY, line_height  # noqa: PLC0415
    from sora_mcp.media.typesetting import WHITE, draw_text, truncate, wrap  # noqa: PLC0415

    pen, beats = ImageDraw.Draw(canvas), 0
    for card, place in zip(cards, layout.places, strict=True):
        y = place.y + _HEADER_HEIGHT
        colour = _COLOURS[beats % len(_COLOURS)] if card.is_beat else _GAP_COLOUR
        beats += card.is_beat
        pen.rectangle((place.x, y, place.x + place.width - 1, y + place.height - 1), fill=colour)
        image = _load_image(card, place)
        if image is not None:
            canvas.paste(image, (place.x + (place.width - image.width) // 2, y + (place.height - image.height) // 2))
        else:
            size = max(14, min(28, place.width // 16))
            lines = max(1, min(6, (place.height - 16) // round(size * 1.3)))
            words = card.words if card.is_beat or card.path is None else f"{card.words} (it cannot be shown)"
            middle = (place.x + place.width / 2, y + place.height / 2)
            draw_text(canvas, middle, wrap(words, size, place.width - 32, lines), size, anchor="mm")
        below = y + place.height + 4
        first = f"{'beat ' if card.is_beat else ''}{card.mark} · {card.start_label}"
        for text, fill in ((first, WHITE if card.is_beat else _CARD_INK), (card.words, GREY)):
            draw_text(
                canvas, (place.x + 4, below), truncate(text, _TEXT_SIZE - 1, place.width - 8), _TEXT_SIZE - 1, fill=fill
            )
            below += line_height(_TEXT_SIZE)


def _load_image(card: BoardCard, place: Place) -> Image.Image | None:
    """The picture of a card, fitted into its place; None if it has none, or none that can be read."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    if card.path is None:
        return None
    path, size = Path(card.path), (place.width, place.height)
    with suppress(ImportError, OSError, ValueError, Image.DecompressionBombError, Unviewable):
        if path.suffix == ".mp4":
            video = read_film(path)
            frame = min(card.still, video.probe.n_frames - 1)
            fitted = ImageOps.contain(Image.new("L", (video.probe.width, video.probe.height)), size)
            return next(image for _, image in video.pictures([frame], *fitted.size))
        if path.suffix.lower() in {".heic", ".heif"}:
            from sora_mcp.media.converting import register_heic  # noqa: PLC0415 - only here

            register_heic()
        with path.open("rb") as file, Image.open(file) as picture:
            if picture.width * picture.height > MAX_IMAGE_PIXELS or max(picture.size) > 2 * MAX_SIDE:
                return None
            picture.draft("RGB", size)
            return ImageOps.contain(ImageOps.exif_transpose(picture).convert("RGB"), size)
    return None
