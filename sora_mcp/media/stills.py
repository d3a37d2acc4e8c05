"""Stills of one video or several in one picture: which, and where they stand. PyAV and Pillow load when first needed.

All functions here are synchronous, and a video from outside can make them take for ever: `viewer` runs them in a
process that can be ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sora_mcp.core.pictures import MOST_STILLS, Moment, PictureFormat, View
from sora_mcp.media import film as films_of
from sora_mcp.media.encoding import FRAME_BYTES, FRAME_WIDTH, SHEET_BYTES, encoded
from sora_mcp.media.extra import require
from sora_mcp.media.film import Film, Probe
from sora_mcp.media.layout import HEIGHT, NARROWEST, WIDTH, Layout, Place, arrange
from sora_mcp.media.unviewable import NotInFilm, Unviewable

if TYPE_CHECKING:
    from PIL import Image

LARGE_WIDTH = 1024
"""Pixels of one frame that is shown alone."""
_TEXT, _LARGE_TEXT = 18, 22
"""Pixels: the height of the words below a still."""


class Reel(Struct, frozen=True):
    """A video to be looked at, and the beats of its storyboard: seconds, and what is seen from there on. On a sheet of
    several its stills are marked with its `title`."""

    path: Path
    title: str = ""
    beats: tuple[tuple[float, str], ...] = ()


class Still(Struct, frozen=True):
    """A still: the video it is of, its frame and when that is shown, and the beat it belongs to, from 1."""

    reel: int
    frame: int
    seconds: float
    beat: int | None = None

    @property
    def words(self) -> str:
        """What stands below it first."""
        return f"{self.seconds:.2f} s · frame {self.frame}"


class Sheet(Struct, frozen=True):
    """A picture, its stills in reading order, and what each video holds.

    `beats`: at which frame of the first video each of its beats begins; None past its end. `missing`: so many stills
    are not there, since the file is damaged.
    """

    picture: bytes
    probes: tuple[Probe, ...]
    stills: tuple[Still, ...]
    beats: tuple[int | None, ...] = ()
    missing: int = 0

    @property
    def probe(self) -> Probe:
        """What the first video holds."""
        return self.probes[0]


def probe(video: Path) -> Probe:
    """What a video holds; its frames are counted, not believed. Raises Unviewable or NotConfigured."""
    return films_of.read(video).probe


def contact_sheet(video: Path, frames: int, picture_format: PictureFormat = "jpeg") -> Sheet:
    """Up to `frames` (1..16) evenly spaced stills of one video; see `sheet`."""
    return sheet([Reel(video)], View(frames=frames), picture_format)


def sheet(reels: Sequence[Reel], view: View, picture_format: PictureFormat = "jpeg") -> Sheet:
    """The stills that are wanted, of all videos at the same times; each with its time, its frame and its beat.

    A JPEG has at most SHEET_BYTES, or FRAME_BYTES where one frame is shown large. Raises Unviewable, NotInFilm where a
    frame or time that is wanted lies past a video's end, and NotConfigured without the extra `media`.
    """
    require()
    films = [films_of.read(reel.path) for reel in reels]
    times = list(_chosen(films, reels, view))
    text = _LARGE_TEXT if view.at is not None else _TEXT
    has_beats = any(reel.beats for reel in reels)
    words = math.ceil(1.4 * text) * (1 + has_beats) + 6
    layout = _large(films[0], words) if view.at is not None and len(films) == 1 else _sheet(films, len(times), words)
    tiles: dict[tuple[int, int], tuple[Still, Image.Image]] = {}
    for number, (reel, film) in enumerate(zip(reels, films, strict=True)):
        frames = [time[number] for time in times]
        places = layout.places[number :: len(films)]
        tiles |= {(at, number): tile for at, tile in enumerate(_tiles(film, reel, number, frames, places))}
    if not tiles:
        raise Unviewable("damaged", reels[0].path.name)
    from sora_mcp.media.paper import draw  # noqa: PLC0415

    in_order = [
        (place, tiles[divmod(i, len(films))]) for i, place in enumerate(layout.places) if divmod(i, len(films)) in tiles
    ]
    captions = [_captions(still, reels[still.reel]) for _, (still, _) in in_order]
    paper = draw(layout, [(place, image) for place, (_, image) in in_order], captions, text)
    most = FRAME_BYTES if view.at is not None else SHEET_BYTES
    picture = encoded(paper, picture_format, most, FRAME_WIDTH if view.at is not None else LARGE_WIDTH)
    return Sheet(
        picture,
        probes=tuple(film.probe for film in films),
        stills=tuple(still for _, (still, _) in in_order),
        beats=tuple(
            films[0].frame_at(second) if second < films[0].probe.duration_s else None for second, _ in reels[0].beats
        ),
        missing=len(layout.places) - len(tiles),
    )


def _sheet(films: Sequence[Film], times: int, words: int) -> Layout:
    return arrange([(film.probe.width, film.probe.height) for film in films], times, words)


def _large(film: Film, words: int) -> Layout:
    """One frame, as wide as it is of use; of a tall one not much is lost."""
    about = film.probe
    width = min(about.width, LARGE_WIDTH)
    if width * about.height > (HEIGHT - words) * about.width:
        width = max(min(about.width, FRAME_WIDTH), (HEIGHT - words) * about.width // about.height)
    width = max(width, NARROWEST)
    height = min(max(1, round(width * about.height / about.width)), 2 * WIDTH)
    return Layout(width, height + words, (Place(0, 0, width, height),))


def _tiles(
    film: Film, reel: Reel, number: int, frames: Sequence[int], places: Sequence[Place]
) -> Iterator[tuple[Still, Image.Image]]:
    """The stills of one video as they go into their places. A frame may be wanted twice, next to a shorter video."""
    begins = [film.frame_at(second) for second, _ in reel.beats]
    place_of = dict(zip(reversed(frames), reversed(places), strict=True))
    largest = max(places, key=lambda place: place.width)
    width, height = _fitting(film.probe, largest)
    drawn: dict[int, tuple[Still, Image.Image]] = {}
    rising = sorted(place_of)
    for frame, image in film.pictures(rising, width, height):
        beat = sum(begin <= frame for begin in begins) or None
        drawn[frame] = (Still(number, frame, round(film.second(frame), 2), beat), image)
    for frame, place in zip(frames, places, strict=True):
        nearest = next((each for each in sorted(drawn) if each >= frame), None)
        if nearest is None:
            return
        still, image = drawn[nearest]
        yield still, image.resize(_fitting(film.probe, place)) if place.width != largest.width else image


def _fitting(about: Probe, place: Place) -> tuple[int, int]:
    """The size at which a picture fits into its place."""
    scale = min(place.width / about.width, place.height / about.height)
    width, height = round(about.width * scale), round(about.height * scale)
    return max(1, min(width, place.width)), max(1, min(height, place.height))


def _captions(still: Still, reel: Reel) -> tuple[str, ...]:
    """What stands below a still, on one line each."""
    first = f"{reel.title} · {still.words}" if reel.title else still.words
    if still.beat is None:
        return (first,)
    return first, f"beat {still.beat}: {reel.beats[still.beat - 1][1]}"


# --- which stills ---------------------------------------------------------------------------------


def _chosen(films: Sequence[Film], reels: Sequence[Reel], view: View) -> Iterator[tuple[int, ...]]:
    """The frames that are wanted, one of each video at a time, rising."""
    most = max(1, MOST_STILLS // len(films))
    if view.at is not None:
        second = _second(films, view.at)
        first = film_frame if (film_frame := view.at.frame) is not None else films[0].frame_at(second)
        yield (first, *(film.frame_at(second) for film in films[1:]))
        return
    if view.at_beats:
        end = min(film.probe.duration_s for film in films)
        seconds = [second for second, _ in reels[0].beats if second < end]
    else:
        seconds = _evenly(films, view, min(view.frames, most))
    apart_s = (seconds[-1] - seconds[0]) / len(seconds) if seconds and len(films) == 1 else 0
    last = -1
    for second in seconds:
        frames = tuple(film.frame_at(second) if view.at_beats else film.cheapest(second, apart_s / 4) for film in films)
        if frames[0] > last and most:
            last, most = frames[0], most - 1
            yield frames


def _evenly(films: Sequence[Film], view: View, count: int) -> list[float]:
    """Times that are evenly spaced in what all videos have."""
    first = films[0]
    if view.span is None:
        start = max(film.second(0) for film in films)
        end = max(start, min(film.second(film.probe.n_frames - 1) for film in films))
    else:
        start, end = (first.second(first.frame_at(_second(films, moment))) for moment in view.span)
    count = min(count, first.nearest(end) - first.nearest(start) + 1)
    return [start + (end - start) * i / max(1, count - 1) for i in range(count)]


def _second(films: Sequence[Film], moment: Moment) -> float:
    """When a frame of the first video, or a time, is. Raises NotInFilm where one of them does not last until then."""
    if moment.frame is not None and moment.frame >= films[0].probe.n_frames:
        raise NotInFilm(0, moment, films[0].probe)
    second = moment.second if moment.frame is None else films[0].second(moment.frame)
    for number, film in enumerate(films):
        if second > film.probe.duration_s + films_of.TOLERANCE_S:
            raise NotInFilm(number, moment, film.probe)
    return second


def overview(sheets: Sequence[tuple[str, Path]], target: Path) -> None:
    """Put several contact sheets (title, file) under each other and save them as one PNG. Raises NotConfigured."""
    require()
    from sora_mcp.media.drawing import stack  # noqa: PLC0415

    stack(sheets, WIDTH).save(target, "PNG", optimize=True)
