"""A storyboard as a picture before anything of it is made: a time line, and a card for each beat and each image.

Pillow is loaded when first needed, in the process that `viewer` starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sora_mcp.core.pictures import MOST_STILLS, PictureFormat
from sora_mcp.core.tables import FPS
from sora_mcp.media import film
from sora_mcp.media.encoding import SHEET_BYTES, encoded
from sora_mcp.media.layout import WIDTH, Layout, Place, arrange
from sora_mcp.media.unviewable import MAX_SIDE, Unviewable

if TYPE_CHECKING:
    from PIL import Image

Rgb = tuple[int, int, int]

MOST_CARDS = MOST_STILLS
"""Cards of one board; the others are counted."""
MOST_PIXELS = 50_000_000
"""Pixels of an image that is shown."""


class BoardCard(Struct, frozen=True):
    """A beat, or an image or a video that is placed. It begins at `frame`; None: wherever the gateway puts it.

    `mark` is its number or letter, `words` say what it is. `path`: the image, or the video whose frame `still` it is.
    """

    mark: str
    words: str
    frame: int | None = None
    path: str | None = None
    still: int = 0
    is_beat: bool = False

    @property
    def begins(self) -> str:
        """When it begins."""
        return "no set time" if self.frame is None else f"{self.frame / FPS:.2f} s · frame {self.frame}"


class Board(Struct, frozen=True):
    """A storyboard: the size of its video in pixels, its length in frames (30 per second; None: not known), its cards
    in order."""

    prompt: str
    width: int
    height: int
    n_frames: int | None
    cards: tuple[BoardCard, ...]

    @property
    def end(self) -> int:
        """The frame at which its time line ends: a second after its last card begins, where its length is not known."""
        return self.n_frames or max((card.frame or 0 for card in self.cards), default=0) + FPS


_TEXT = 18
_MARGIN = 12
_LINE_TOP, _LINE_HEIGHT = 96, 34
_HEAD = 168
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
    """The board; a JPEG has at most SHEET_BYTES. What of an image cannot be read stands there in words."""
    from PIL import Image  # noqa: PLC0415

    from sora_mcp.media.drawing import PAPER  # noqa: PLC0415

    cards = board.cards[:MOST_CARDS]
    shape = (max(board.width, WIDTH), round(max(board.width, WIDTH) * board.height / board.width))
    layout = arrange([shape], len(cards), 2 * round(1.4 * _TEXT) + 6)
    paper = Image.new("RGB", (max(layout.width, 900), layout.height + _HEAD), PAPER)
    _draw_head(paper, board)
    _draw_line(paper, board)
    _draw_cards(paper, cards, layout)
    return encoded(paper, picture_format, SHEET_BYTES, 1024)


def _draw_head(paper: Image.Image, board: Board) -> None:
    from sora_mcp.media.letters import cut, write  # noqa: PLC0415
    from sora_mcp.media.paper import GREY  # noqa: PLC0415

    more = len(board.cards) - MOST_CARDS
    shape = f"{board.width}x{board.height}"
    shape += f" · {board.n_frames / FPS:g} s · {board.n_frames} frames" if board.n_frames else " · length not known"
    title = f"PLAN, nothing is made yet · {shape}" + (f" · {more} more not shown" if more > 0 else "")
    width = paper.width - 2 * _MARGIN
    write(paper, (_MARGIN, 10), cut(title, 26, width), 26)
    if board.prompt:
        write(paper, (_MARGIN, 50), cut(board.prompt, _TEXT, width), _TEXT, fill=GREY)


def _draw_line(paper: Image.Image, board: Board) -> None:
    """The time line: where each beat begins and ends, and where images stand."""
    from PIL import ImageDraw  # noqa: PLC0415

    from sora_mcp.media.letters import write  # noqa: PLC0415
    from sora_mcp.media.paper import GREY  # noqa: PLC0415

    pen, width, end_of_all = ImageDraw.Draw(paper), paper.width, board.end

    def x_of(frame: int) -> int:
        return _MARGIN + round((width - 2 * _MARGIN) * min(frame, end_of_all) / end_of_all)

    top, bottom = _LINE_TOP, _LINE_TOP + _LINE_HEIGHT
    pen.rectangle((x_of(0), top, x_of(end_of_all), bottom), fill=_GAP_COLOUR)
    beats = [card for card in board.cards if card.is_beat]
    ends = [*(card.frame or 0 for card in beats[1:]), end_of_all]
    for number, (card, end) in enumerate(zip(beats, ends, strict=False)):
        left = x_of(card.frame or 0)
        pen.rectangle((left, top, max(left + 1, x_of(end) - 2), bottom), fill=_COLOURS[number % len(_COLOURS)])
        if x_of(end) - left > 10 + 10 * len(card.mark):
            write(paper, (left + 6, top + 6), card.mark, 20)
    for card in board.cards:
        if not card.is_beat and card.frame is not None:
            x = x_of(card.frame)
            pen.polygon([(x - 8, top - 6), (x + 8, top - 6), (x, top + 8)], fill=_CARD_COLOUR)
            write(paper, (x + 11, top - 20), card.mark, 16, fill=_CARD_INK)
    seconds = end_of_all // FPS
    step = next(step for step in (1, 2, 5, 10, 30, 60, max(60, seconds)) if seconds / step <= 16)
    for second in range(0, seconds + 1, step):
        x = x_of(second * FPS)
        pen.line((x, bottom, x, bottom + 6), fill=GREY)
        anchor = "la" if second == 0 else "ra" if second * FPS == end_of_all else "ma"
        write(paper, (x, bottom + 9), f"{second} s", 15, fill=GREY, anchor=anchor)


def _draw_cards(paper: Image.Image, cards: Sequence[BoardCard], layout: Layout) -> None:
    from PIL import ImageDraw  # noqa: PLC0415

    from sora_mcp.media.letters import WHITE, cut, wrapped, write  # noqa: PLC0415
    from sora_mcp.media.paper import GREY, line_height  # noqa: PLC0415

    pen, beats = ImageDraw.Draw(paper), 0
    for card, place in zip(cards, layout.places, strict=True):
        y = place.y + _HEAD
        colour = _COLOURS[beats % len(_COLOURS)] if card.is_beat else _GAP_COLOUR
        beats += card.is_beat
        pen.rectangle((place.x, y, place.x + place.width - 1, y + place.height - 1), fill=colour)
        image = _image(card, place)
        if image is not None:
            paper.paste(image, (place.x + (place.width - image.width) // 2, y + (place.height - image.height) // 2))
        else:
            size = max(14, min(28, place.width // 16))
            lines = max(1, min(6, (place.height - 16) // round(size * 1.3)))
            words = card.words if card.is_beat or card.path is None else f"{card.words} (it cannot be shown)"
            middle = (place.x + place.width / 2, y + place.height / 2)
            write(paper, middle, wrapped(words, size, place.width - 32, lines), size, anchor="mm")
        below = y + place.height + 4
        first = f"{'beat ' if card.is_beat else ''}{card.mark} · {card.begins}"
        for text, fill in ((first, WHITE if card.is_beat else _CARD_INK), (card.words, GREY)):
            write(paper, (place.x + 4, below), cut(text, _TEXT - 1, place.width - 8), _TEXT - 1, fill=fill)
            below += line_height(_TEXT)


def _image(card: BoardCard, place: Place) -> Image.Image | None:
    """The picture of a card, fitted into its place; None where there is none, or none that can be read."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    if card.path is None:
        return None
    path, size = Path(card.path), (place.width, place.height)
    with suppress(ImportError, OSError, ValueError, Image.DecompressionBombError, Unviewable):
        if path.suffix == ".mp4":
            video = film.read(path)
            frame = min(card.still, video.probe.n_frames - 1)
            fitted = ImageOps.contain(Image.new("L", (video.probe.width, video.probe.height)), size)
            return next(image for _, image in video.pictures([frame], *fitted.size))
        if path.suffix.lower() in {".heic", ".heif"}:
            from sora_mcp.media.converting import read_heic_too  # noqa: PLC0415 - only here

            read_heic_too()
        with path.open("rb") as file, Image.open(file) as picture:
            if picture.width * picture.height > MOST_PIXELS or max(picture.size) > 2 * MAX_SIDE:
                return None
            picture.draft("RGB", size)
            return ImageOps.contain(ImageOps.exif_transpose(picture).convert("RGB"), size)
    return None
