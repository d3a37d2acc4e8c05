"""The times and frames of stills are the file's own: at any rate, also one that varies, and the right way up."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from films import at_rate, bordered, film, frame_number, sound, timestamps
from PIL import Image

from sora_mcp import media
from sora_mcp.core.pictures import Moment, View
from sora_mcp.media.film import read_film
from sora_mcp.media.stills import Reel

_CHANCE = random.Random(7)  # noqa: S311 - the same rates in every run


def varying(n_frames: int) -> list[Fraction | float]:
    """Times of frames that are shown for 17 to 250 ms."""
    times: list[Fraction | float] = [0.0]
    for _ in range(n_frames - 1):
        times.append(float(times[-1]) + _CHANCE.choice((1 / 60, 1 / 24, 0.1, 0.25)))
    return times


RATES: dict[str, Sequence[Fraction | float]] = {
    "24": at_rate(24, 120),
    "25": at_rate(25, 125),
    "29.97": at_rate(Fraction(30_000, 1001), 150),
    "60": at_rate(60, 300),
    "varying": varying(120),
    "late": [0.5 + time for time in at_rate(30, 60)],
}
KINDS: dict[str, dict[str, str]] = {
    "one group": {"g": "600"},
    "short groups": {"g": "7"},
    "open groups": {"x264-params": "open-gop=1:keyint=20:bframes=5"},
}


def stills_of(path: Path, view: View) -> list[tuple[media.Still, Image.Image]]:
    """The stills of a sheet, cut apart again."""
    film_read = read_film(path)
    seen = media.sheet([Reel(path)], view, "png")
    picture = Image.open(io.BytesIO(seen.picture))
    if view.at is not None:
        height = round(picture.width * film_read.probe.height / film_read.probe.width)
        return [(seen.stills[0], picture.crop((0, 0, picture.width, height)))]
    shape = (film_read.probe.width, film_read.probe.height)
    places = media.arrange([shape], len(seen.stills), 32).places
    corners = [(at.x, at.y, at.x + at.width, at.y + at.height) for at in places]
    return [(still, picture.crop(corner)) for still, corner in zip(seen.stills, corners, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
def test_each_still_is_the_frame_that_it_says_at_the_time_that_it_says(tmp_path: Path, rate: str, kind: str) -> None:
    path = film(tmp_path / "film.mp4", RATES[rate], **KINDS[kind])  # type: ignore[arg-type]
    truth = timestamps(path)
    whole = read_film(path)
    assert [whole.second(frame) for frame in range(len(truth))] == pytest.approx(truth, abs=1e-6)
    for still, picture in stills_of(path, View(frames=6)):
        assert frame_number(picture) == still.frame
        assert still.seconds == pytest.approx(truth[still.frame], abs=0.005)
    for second in (truth[0], 1.0, 1.499, truth[-1]):
        (still, picture), *_ = stills_of(path, View(at=Moment(second=second)))
        assert frame_number(picture) == still.frame
        step = max(after - before for before, after in pairwise(truth))
        assert abs(truth[still.frame] - second) <= step + 0.005
        assert still.frame == max(frame for frame, time in enumerate(truth) if time <= second + 0.002)


@pytest.mark.parametrize("rate", ["24", "60", "varying"])
def test_the_length_is_that_of_the_file(tmp_path: Path, rate: str) -> None:
    path = film(tmp_path / "film.mp4", RATES[rate])
    about, times = media.probe(path), RATES[rate]
    last_step = float(times[-1]) - float(times[-2])
    assert about.duration_s == pytest.approx(float(times[-1]) + last_step, abs=last_step)
    assert about.is_variable is (rate == "varying")
    if rate != "varying":
        assert about.fps == pytest.approx(float(rate))


def test_a_matroska_file_that_rounds_its_times_is_read_as_well(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mkv", RATES["24"])
    for still, picture in stills_of(path, View(frames=5)):
        assert frame_number(picture) == still.frame
    ((still, picture),) = stills_of(path, View(at=Moment(second=88 / 24)))
    assert still.frame == frame_number(picture) == 88


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_a_film_is_shown_the_way_up_that_a_player_shows_it(tmp_path: Path, turned: int) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.set_display_rotation(-turned)
        upright = bordered((320, 180) if turned % 180 == 0 else (180, 320))
        coded = upright.rotate(turned, expand=True)
        for _ in range(8):
            file.mux(stream.encode(av.VideoFrame.from_image(coded)))  # type: ignore[no-untyped-call]
        file.mux(stream.encode(None))
    about = media.probe(path)
    assert (about.width, about.height) == upright.size
    for _, picture in [*stills_of(path, View(frames=2)), *stills_of(path, View(at=Moment(frame=3)))]:
        red, _, blue = picture.convert("RGB").getpixel((picture.width // 8, picture.height // 8))  # type: ignore[misc]
        assert red > 150 > blue
        red, _, blue = picture.convert("RGB").getpixel((picture.width * 7 // 8, picture.height // 8))  # type: ignore[misc]
        assert red < 100 < blue


def test_a_range_and_the_beats_are_sought_in_the_file(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", RATES["24"])
    seen = media.sheet([Reel(path)], View(frames=4, span=(Moment(second=1), Moment(second=2))))
    assert [still.frame for still in seen.stills] == [24, 32, 40, 48]
    beats = ((0.0, "a door"), (61 / 30, "it opens"), (4.0, "light"), (9.0, "never"))
    seen = media.sheet([Reel(path, beats=beats)], View(at_beats=True))
    assert [(still.frame, still.beat) for still in seen.stills] == [(0, 1), (48, 2), (96, 3)]
    assert seen.beats == (0, 48, 96, None)


def test_two_films_are_seen_at_the_same_times(tmp_path: Path) -> None:
    one, other = film(tmp_path / "one.mp4", RATES["24"]), film(tmp_path / "other.mp4", RATES["60"][:180], (180, 320))
    seen = media.sheet([Reel(one, "A"), Reel(other, "B")], View(frames=3))
    assert [still.reel for still in seen.stills] == [0, 1, 0, 1, 0, 1]
    for a, b in zip(seen.stills[::2], seen.stills[1::2], strict=True):
        assert abs(a.seconds - b.seconds) <= 1 / 24
    assert seen.stills[-1].seconds == pytest.approx(179 / 60, abs=0.01)


def test_one_large_frame_is_large_and_small_in_bytes(tmp_path: Path) -> None:
    for size in ((1920, 1080), (1080, 1920), (1280, 720), (480, 854)):
        path = film(tmp_path / "film.mp4", at_rate(30, 3), size)
        seen = media.sheet([Reel(path)], View(at=Moment(frame=1)))
        picture = Image.open(io.BytesIO(seen.picture))
        assert (picture.format, len(seen.picture) <= 120_000) == ("JPEG", True)
        assert min(size[0], 800) <= picture.width <= 1024


def test_what_has_no_film_or_is_encrypted_is_told_so(tmp_path: Path) -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76" * 16, "encryption_kid": "a7" * 16}
    encrypted = film(tmp_path / "secret.mp4", at_rate(30, 10), container=key)
    with pytest.raises(media.Unviewable, match=r"secret\.mp4 is encrypted"):
        media.probe(encrypted)
    with pytest.raises(media.Unviewable, match="holds sound but no pictures"):
        media.probe(sound(tmp_path / "sound.m4a"))


def test_a_film_of_one_frame_is_shown(tmp_path: Path) -> None:
    path = film(tmp_path / "one.mp4", [0])
    for view in (View(), View(at=Moment(frame=0)), View(at=Moment(second=0))):
        assert [still.frame for still in media.sheet([Reel(path)], view).stills] == [0]


def test_a_film_that_is_cut_off_or_damaged_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", at_rate(30, 120), container={"movflags": "faststart"}, g="15").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    seen = media.sheet([Reel(cut)], View(frames=4))
    assert 1 <= len(seen.stills) <= 4
    assert len(seen.stills) + seen.missing == 4 or seen.probe.n_frames < 120
