"""Contact sheets and rendering, with real files."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from PIL import Image, ImageChops, ImageStat

from sora_mcp import media
from sora_mcp.core.errors import FileProblem
from sora_mcp.core.pictures import PictureFormat
from sora_mcp.gateway.container import HEAD_BYTES, is_video, is_whole
from sora_mcp.media.encoding import MAX_SHEET_BYTES
from sora_mcp.media.layout import arrange
from sora_mcp.media.render import Card, Clip, Scene, render

Draw = Callable[..., Path]
KINDS: tuple[PictureFormat, ...] = ("jpeg", "png")


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Render a small scene and return its file."""

    def make(name: str, **changes: object) -> Path:
        scene = Scene(**({"width": 240, "height": 136, "n_frames": 30, "prompt": "a quiet forest"} | changes))  # type: ignore[arg-type]
        path = tmp_path / f"{name}.mp4"
        render(scene, path)
        return path

    return make


def stills(video: Path, frames: int) -> list[Image.Image]:
    """The stills of a contact sheet, cut apart again."""
    about = media.probe(video)
    layout = arrange([(about.width, about.height)], frames, 32)
    sheet = Image.open(io.BytesIO(media.contact_sheet(video, frames, "png").picture))
    assert sheet.size == (layout.width, layout.height)
    return [sheet.crop((at.x, at.y, at.x + at.width, at.y + at.height)) for at in layout.places]


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures, 0..255."""
    return sum(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean) / 3


@pytest.mark.parametrize(("width", "height", "frames"), [(854, 480, 150), (480, 480, 300), (480, 854, 150)])
def test_a_rendered_video_has_exactly_the_size_and_frames_asked_for(
    draw: Draw, width: int, height: int, frames: int
) -> None:
    about = media.probe(draw("clip", width=width, height=height, n_frames=frames))
    assert (about.codec, about.width, about.height, about.n_frames, about.fps) == ("h264", width, height, frames, 30)
    assert about.duration_s == frames / 30


def test_a_video_moves(draw: Draw) -> None:
    first, last = stills(draw("clip"), 2)
    assert difference(first, last) > 2


def test_a_caption_appears_at_its_frame(draw: Draw) -> None:
    plain = stills(draw("plain"), 4)
    captioned = stills(draw("captioned", captions=((15, "A fox crosses"),)), 4)
    differences = [difference(one, other) for one, other in zip(plain, captioned, strict=True)]
    assert max(differences[:2]) < 1 < min(differences[2:])


@pytest.mark.parametrize(("source", "prompt"), [("a forest", "at night"), ("snow", "a sunset"), ("night", "a day")])
@pytest.mark.parametrize("variant", [1, 2])
def test_a_remix_departs_from_its_source_by_its_amount(draw: Draw, source: str, prompt: str, variant: int) -> None:
    original = draw("source", prompt=source, n_frames=4)
    departures = []
    for amount in (1.0, 2.0, 4.0, 6.0, 8.0):
        changes = {"prompt": prompt, "clips": (Clip(original),), "amount": amount, "variant": variant, "n_frames": 4}
        departures.append(difference(stills(original, 1)[0], stills(draw(f"remix{amount}", **changes), 1)[0]))
    assert departures == sorted(departures)
    assert departures[4] > 2 * departures[0]


@pytest.mark.parametrize("kind", ["create", "remix", "slight remix", "blend", "image"])
def test_variants_differ(draw: Draw, tmp_path: Path, kind: str) -> None:
    first, second = (draw(prompt, prompt=prompt, n_frames=8) for prompt in ("sunset", "snow"))
    Image.effect_noise((300, 200), 90).resize((30, 20)).resize((300, 200)).save(tmp_path / "noise.png")
    all_changes: dict[str, dict[str, object]] = {
        "create": {},
        "remix": {"clips": (Clip(first),), "amount": 8.0},
        "slight remix": {"clips": (Clip(first),), "amount": 1.0},
        "blend": {"clips": (Clip(first), Clip(second))},
        "image": {"cards": (Card(0, "noise", tmp_path / "noise.png"),)},
    }
    shown = [stills(draw(f"variant{n}", variant=n, n_frames=8, **all_changes[kind]), 3)[1] for n in (1, 2, 3, 4)]
    assert min(difference(one, other) for i, one in enumerate(shown) for other in shown[:i]) > 1.5


def test_all_variants_begin_with_the_image_that_they_are_made_from(draw: Draw, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((240, 136)).save(tmp_path / "image.png")
    image = Image.open(tmp_path / "image.png").convert("RGB")
    for variant in (1, 2, 3, 4):
        cards = (Card(0, "image", tmp_path / "image.png"), Card(5, "red", None))
        shown = stills(draw(f"variant{variant}", variant=variant, n_frames=6, prompt="", cards=cards), 6)
        at_first = shown[0].resize(image.size).crop((0, 20, 240, 110))
        assert difference(at_first, image.crop((0, 20, 240, 110))) < 3
        assert difference(shown[4], shown[5]) > 20


@pytest.mark.parametrize("width", [480, 240, 1280], ids=lambda width: f"{width}x480")
def test_the_words_of_a_video_cover_those_of_what_it_is_made_from(draw: Draw, width: int) -> None:
    shown = []
    for words in ("", "a caption that is longer than what the remix says, and then some"):
        source = draw("source", width=480, height=480, n_frames=1, captions=((0, words),))
        made = draw("made", width=width, height=480, n_frames=1, prompt="short", clips=(Clip(source),), amount=1.0)
        shown.append(stills(made, 1)[0])
    below = (0, round(shown[0].height * 0.83), *shown[0].size)
    assert difference(*(still.crop(below) for still in shown)) < 1


def test_a_blend_begins_as_the_first_and_ends_as_the_second(draw: Draw) -> None:
    first, second = draw("first", prompt="a sunset"), draw("second", prompt="snow")
    start, end = stills(draw("blend", prompt="", clips=(Clip(first), Clip(second))), 2)
    first_start, second_end = stills(first, 2)[0], stills(second, 2)[1]
    assert difference(start, first_start) < 4 < difference(start, second_end)
    assert difference(end, second_end) < 4 < difference(end, first_start)


def test_an_image_stands_from_its_frame_on(draw: Draw, tmp_path: Path) -> None:
    Image.new("RGB", (300, 300), (200, 30, 30)).save(tmp_path / "red.png")
    before, after = stills(draw("card", prompt="", cards=(Card(20, "red", tmp_path / "red.png"),)), 2)
    assert after.getpixel((after.width // 2, after.height // 2))[0] > 150  # type: ignore[index]
    assert difference(before, after) > 20


def test_an_image_that_is_not_fetched_is_named_on_a_card(draw: Draw) -> None:
    assert media.probe(draw("card", cards=(Card(0, "pictures.example"),))).n_frames == 30


@pytest.mark.parametrize("prompt", ["", "日本語 🎬 مرحبا", "x" * 5000, "a\u202eb\x00c", "word " * 400])
def test_any_prompt_can_be_drawn(draw: Draw, prompt: str) -> None:
    assert media.probe(draw("any", prompt=prompt, n_frames=2)).n_frames == 2


@pytest.mark.parametrize("frames", [1, 5, 16])
def test_a_contact_sheet_has_as_many_stills_as_asked_for(draw: Draw, frames: int) -> None:
    shown = media.contact_sheet(draw("clip"), frames)
    sheet = Image.open(io.BytesIO(shown.picture))
    assert sheet.format == "JPEG"
    assert sheet.width <= 1280
    assert (len(shown.stills), shown.probe.n_frames) == (frames, 30)


def test_more_stills_than_frames_gives_all_frames(draw: Draw) -> None:
    shown = media.contact_sheet(draw("clip", n_frames=3), 16)
    assert len(shown.stills) == 3
    assert Image.open(io.BytesIO(shown.picture)).width == 3 * (240 + 4) - 4


@pytest.mark.parametrize(("width", "height"), [(4000, 2), (2, 4000), (1, 1), (853, 481)])
def test_a_video_of_any_shape_has_a_contact_sheet(draw: Draw, width: int, height: int) -> None:
    video = draw("odd", width=width, height=height, n_frames=2)
    shown = media.contact_sheet(video, 4)
    assert (shown.probe.width, shown.probe.height, len(shown.stills)) == (width, height, 2)
    assert shown.picture.startswith(b"\xff\xd8\xff")
    assert len(shown.picture) <= MAX_SHEET_BYTES
    assert media.contact_sheet(video, 4, "png").picture.startswith(b"\x89PNG")


def noise(path: Path, width: int, height: int) -> Path:
    """A video that no codec can make small."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(16):
            pixels = random.Random(index).randbytes(width * height * 3)  # noqa: S311
            frame = av.VideoFrame.from_image(Image.frombytes("RGB", (width, height), pixels))  # type: ignore[no-untyped-call]
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("size", [(854, 480), (480, 854), (480, 480)], ids=str)
@pytest.mark.parametrize("frames", [1, 6, 16])
def test_a_contact_sheet_of_any_video_is_small_and_one_asked_for_as_a_png_is_exact(
    tmp_path: Path, size: tuple[int, int], frames: int
) -> None:
    video = noise(tmp_path / "noise.mp4", *size)
    small, exact = (Image.open(io.BytesIO(media.contact_sheet(video, frames, kind).picture)) for kind in KINDS)
    shown = media.contact_sheet(video, frames)
    assert len(shown.picture) <= 60_000
    assert (small.format, exact.format) == ("JPEG", "PNG")
    assert small.width >= 240
    assert abs(small.width / small.height - exact.width / exact.height) < 0.02 * exact.width / exact.height


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 100])
def test_what_is_not_a_video_is_refused_in_our_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    for look in (media.probe, lambda video: media.contact_sheet(video, 4)):
        with pytest.raises(FileProblem, match=r"bad\.mp4 (cannot be read as a|holds no) video"):
            look(path)


def test_of_a_damaged_video_comes_a_contact_sheet_or_our_own_words(draw: Draw, tmp_path: Path) -> None:
    whole, path = draw("whole", width=96, height=64, n_frames=8).read_bytes(), tmp_path / "damaged.mp4"
    chance = random.Random(1)  # noqa: S311 - the same damage in every run
    shown = refused = 0
    for case in range(150):
        damaged = bytearray(whole[: chance.randrange(len(whole))] if case % 3 == 0 else whole)
        for _ in range(chance.choice((1, 4, 16, 64)) if case % 3 else 0):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            shown += media.contact_sheet(path, 4).picture.startswith(b"\xff\xd8")
        except FileProblem:
            refused += 1
    assert shown + refused == 150
    assert min(shown, refused) > 25


def test_a_playlist_in_the_place_of_a_video_opens_no_other_file(draw: Draw, tmp_path: Path) -> None:
    path = tmp_path / "playlist.mp4"
    path.write_text(f"ffconcat version 1.0\nfile {draw('private').name}\n")
    with pytest.raises(FileProblem, match="cannot be read as a video"):
        media.probe(path)


@pytest.mark.parametrize(("side", "frames"), [(8194, 1), (16, 20_001)])
def test_a_video_too_large_to_be_shown_is_refused_before_it_is_decoded(tmp_path: Path, side: int, frames: int) -> None:
    path = tmp_path / "large.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = side, 16, "yuv420p"
        frame = av.VideoFrame(side, 16, "yuv420p")
        for index in range(frames):
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(FileProblem, match="larger than can be shown here"):
        media.contact_sheet(path, 4)


def test_a_rendering_that_fails_leaves_nothing_behind(draw: Draw, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        draw("clip", cards=(Card(0, "gone", tmp_path / "gone.png"),))
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_begins_past_the_end_of_its_source_is_its_last_frame(draw: Draw) -> None:
    source = draw("source")
    late = Clip(source, 500)
    last = stills(source, 2)[1]
    above_the_words = (0, last.height // 4, last.width, last.height * 3 // 4)
    for still in stills(draw("late", prompt="", clips=(late, late)), 2):
        assert difference(still.crop(above_the_words), last.crop(above_the_words)) < 3


def test_a_city_has_lit_windows_and_the_hills_at_night_have_none(draw: Draw) -> None:
    def brightest(prompt: str) -> float:
        still = stills(draw("still", prompt=prompt), 1)[0]
        ground = (0, still.height * 6 // 10, still.width, still.height * 8 // 10)
        return float(ImageStat.Stat(still.convert("L").crop(ground)).extrema[0][1])

    assert brightest("the hills at night") < 100 < brightest("a city")


@pytest.mark.parametrize("first", [b"ftyp", b"free", b"skip", b"wide"])
@pytest.mark.parametrize("behind", [b"", b"SEFT" * 500, b"\0"])
def test_a_video_without_ftyp_or_with_bytes_behind_it_is_whole_and_can_be_looked_at(
    draw: Draw, first: bytes, behind: bytes
) -> None:
    path = draw("clip")
    content = path.read_bytes()
    path.write_bytes(content[:4] + first + content[8:] + behind)
    assert is_video(path.read_bytes()[:HEAD_BYTES])
    assert is_whole(path, path.stat().st_size)
    assert media.contact_sheet(path, 2).probes[0].n_frames == 30
