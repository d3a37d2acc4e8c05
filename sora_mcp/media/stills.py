"""Sheets of stills of one or more videos: choosing the frames, and laying them out. PyAV and Pillow load when needed.

All functions here are synchronous, and an untrusted video can make them run forever: `viewer` runs them in a process
that can be killed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sora_mcp.core.pictures import MAX_STILLS, Moment, PictureFormat, View
from sora_mcp.media.encoding import MAX_FRAME_BYTES, MAX_SHEET_BYTES, MIN_FRAME_WIDTH, encode
from sora_mcp.media.extra import require
from sora_mcp.media.film import TOLERANCE_S, Film, Probe, read_film
from sora_mcp.media.layout import MAX_HEIGHT, MAX_WIDTH, MIN_STILL_WIDTH, Layout, Place, arrange
from sora_mcp.media.unviewable import NotInFilm, Unviewable

if TYPE_CHECKING:
    from PIL import Image

LARGE_WIDTH = 1024
"""Pixels of a single frame."""
_TEXT_SIZE, _LARGE_TEXT_SIZE = 18, 22
"""Pixels: the height of the text below a still."""


class Reel(Struct, frozen=True):
    """A video to show, and the beats of its storyboard: the start in seconds, and the description. On a sheet of
    several videos its stills are captioned with its `title`."""

    path: Path
    title: str = ""
    beats: tuple[tuple[float, str], ...] = ()


class Still(Struct, frozen=True):
    """A still: the index of its reel, its frame and timestamp, and the number of its beat, from 1."""

    reel: int
    frame: int
    seconds: float
    beat: int | None = None

    @property
    def label(self) -> str:
        """The first line of its caption."""
        return f"{self.seconds:.2f} s · frame {self.frame}"


class Sheet(Struct, frozen=True):
    """A picture, its stills in reading order, and the properties of each video.

    `beats` has the first frame of each beat of the first video; None past its end. `missing` is the number of stills
    left out because the file is damaged.
    """

    picture: bytes
    probes: tuple[Probe, ...]
    stills: tuple[Still, ...]
    beats: tuple[int | None, ...] = ()
    missing: int = 0

    @property
    def probe(self) -> Probe:
        """The properties of the first video."""
        return self.probes[0]


def probe(video: Path) -> Probe:
    """The actual properties of a video; its frames are counted. Raises Unviewable or NotConfigured."""
    return read_film(video).probe


def contact_sheet(video: Path, frames: int, picture_format: PictureFormat = "jpeg") -> Sheet:
    """Draw up to `frames` (1..16) evenly spaced stills of one video; see `sheet`."""
    return sheet([Reel(video)], View(frames=frames), picture_format)


def sheet(reels: Sequence[Reel], view: View, picture_format: PictureFormat = "jpeg") -> Sheet:
    """Draw the stills of a view, of all videos at the same times; each with its time, its frame and its beat.

    A JPEG has at most MAX_SHEET_BYTES, or MAX_FRAME_BYTES if a single frame is shown. Raises Unviewable, NotInFilm if a
    requested frame or time is past a video's end, and NotConfigured without the extra `media`.
    """
    require()
    films = [read_film(reel.path) for reel in reels]
    times = list(_select_frames(films, reels, view))
    text_size = _LARGE_TEXT_SIZE if view.at is not None else _TEXT_SIZE
    has_beats = any(reel.beats for reel in reels)
    caption_height = math.ceil(1.4 * text_size) * (1 + has_beats) + 6
    layout = (
        _single_layout(films[0], caption_height)
        if view.at is not None and len(films) == 1
        else _sheet_layout(films, len(times), caption_height)
    )
    tiles: dict[tuple[int, int], tuple[Still, Image.Image]] = {}
    for number, (reel, film) in enumerate(zip(reels, films, strict=True)):
        frames = [time[number] for time in times]
        places = layout.places[number :: len(films)]
        tiles |= {(at, number): tile for at, tile in enumerate(_tiles(film, reel, number, frames, places))}
    if not tiles:
        raise Unviewable("damaged", reels[0].path.name)
    from sora_mcp.media.compositing import draw_sheet  # noqa: PLC0415

    in_order = [
        (place, tiles[divmod(i, len(films))]) for i, place in enumerate(layout.places) if divmod(i, len(films)) in tiles
    ]
    captions = [_captions(still, reels[still.reel]) for _, (still, _) in in_order]
    canvas = draw_sheet(layout, [(place, image) for place, (_, image) in in_order], captions, text_size)
    max_bytes = MAX_FRAME_BYTES if view.at is not None else MAX_SHEET_BYTES
    picture = encode(canvas, picture_format, max_bytes, MIN_FRAME_WIDTH if view.at is not None else LARGE_WIDTH)
    return Sheet(
        picture,
        probes=tuple(film.probe for film in films),
        stills=tuple(still for _, (still, _) in in_order),
        beats=tuple(
            films[0].frame_at(second) if second < films[0].probe.duration_s else None for second, _ in reels[0].beats
        ),
        missing=len(layout.places) - len(tiles),
    )


def _sheet_layout(films: Sequence[Film], times: int, caption_height: int) -> Layout:
    return arrange([(film.probe.width, film.probe.height) for film in films], times, caption_height)


def _single_layout(film: Film, caption_height: int) -> Layout:
    """The layout of one frame, as wide as useful; a tall one is narrowed, but not by much."""
    shape = film.probe
    width = min(shape.width, LARGE_WIDTH)
    if width * shape.height > (MAX_HEIGHT - caption_height) * shape.width:
        width = max(min(shape.width, MIN_FRAME_WIDTH), (MAX_HEIGHT - caption_height) * shape.width // shape.height)
    width = max(width, MIN_STILL_WIDTH)
    height = min(max(1, round(width * shape.height / shape.width)), 2 * MAX_WIDTH)
    return Layout(width, height + caption_height, (Place(0, 0, width, height),))


def _tiles(
    film: Film, reel: Reel, number: int, frames: Sequence[int], places: Sequence[Place]
) -> Iterator[tuple[Still, Image.Image]]:
    """The stills of one video, sized for their places. A frame may occur twice, next to a shorter video."""
    beat_frames = [film.frame_at(second) for second, _ in reel.beats]
    places_by_frame = dict(zip(reversed(frames), reversed(places), strict=True))
    widest = max(places, key=lambda place: place.width)
    width, height = _fitted_size(film.probe, widest)
    stills_by_frame: dict[int, tuple[Still, Image.Image]] = {}
    ascending = sorted(places_by_frame)
    for frame, image in film.pictures(ascending, width, height):
        beat = sum(start <= frame for start in beat_frames) or None
        stills_by_frame[frame] = (Still(number, frame, round(film.second(frame), 2), beat), image)
    for frame, place in zip(frames, places, strict=True):
        available = next((each for each in sorted(stills_by_frame) if each >= frame), None)
        if available is None:
            return
        still, image = stills_by_frame[available]
        yield still, image.resize(_fitted_size(film.probe, place)) if place.width != widest.width else image


def _fitted_size(shape: Probe, place: Place) -> tuple[int, int]:
    """The largest size at which a picture fits into its place."""
    scale = min(place.width / shape.width, place.height / shape.height)
    width, height = round(shape.width * scale), round(shape.height * scale)
    return max(1, min(width, place.width)), max(1, min(height, place.height))


def _captions(still: Still, reel: Reel) -> tuple[str, ...]:
    """The caption lines of a still."""
    first = f"{reel.title} · {still.label}" if reel.title else still.label
    if still.beat is None:
        return (first,)
    return first, f"beat {still.beat}: {reel.beats[still.beat - 1][1]}"


# --- choosing frames ------------------------------------------------------------------------------


def _select_frames(films: Sequence[Film], reels: Sequence[Reel], view: View) -> Iterator[tuple[int, ...]]:
    """The frames to show, one of each video at a time, ascending."""
    remaining = max(1, MAX_STILLS // len(films))
    if view.at is not None:
        second = _seconds_of(films, view.at)
        first = film_frame if (film_frame := view.at.frame) is not None else films[0].frame_at(second)
        yield (first, *(film.frame_at(second) for film in films[1:]))
        return
    if view.at_beats:
        end = min(film.probe.duration_s for film in films)
        seconds = [second for second, _ in reels[0].beats if second < end]
    else:
        seconds = _evenly_spaced(films, view, min(view.frames, remaining))
    spacing_s = (seconds[-1] - seconds[0]) / len(seconds) if seconds and len(films) == 1 else 0
    last = -1
    for second in seconds:
        frames = tuple(
            film.frame_at(second) if view.at_beats else film.cheapest_frame(second, spacing_s / 4) for film in films
        )
        if frames[0] > last and remaining:
            last, remaining = frames[0], remaining - 1
            yield frames


def _evenly_spaced(films: Sequence[Film], view: View, count: int) -> list[float]:
    """Evenly spaced times within the span that all videos cover."""
    first = films[0]
    if view.span is None:
        start = max(film.second(0) for film in films)
        end = max(start, min(film.second(film.probe.n_frames - 1) for film in films))
    else:
        start, end = (first.second(first.frame_at(_seconds_of(films, moment))) for moment in view.span)
    count = min(count, first.nearest_frame(end) - first.nearest_frame(start) + 1)
    return [start + (end - start) * i / max(1, count - 1) for i in range(count)]


def _seconds_of(films: Sequence[Film], moment: Moment) -> float:
    """The time of a moment in seconds. Raises NotInFilm if one of the videos is shorter."""
    if moment.frame is not None and moment.frame >= films[0].probe.n_frames:
        raise NotInFilm(0, moment, films[0].probe)
    second = moment.second if moment.frame is None else films[0].second(moment.frame)
    for number, film in enumerate(films):
        if second > film.probe.duration_s + TOLERANCE_S:
            raise NotInFilm(number, moment, film.probe)
    return second


def overview(sheets: Sequence[tuple[str, Path]], target: Path) -> None:
    """Save several contact sheets (title, file) as one PNG. Raises NotConfigured."""
    require()
    from sora_mcp.media.drawing import draw_overview  # noqa: PLC0415

    draw_overview(sheets).save(target, "PNG", optimize=True)
