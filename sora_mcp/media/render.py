"""Real H.264 for the sandbox: exactly the size and the number of frames that were asked for."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path

import av
from msgspec import Struct
from PIL import Image, ImageChops, ImageDraw, ImageOps

from sora_mcp.core.tables import FPS
from sora_mcp.media.landscape import Landscape, Palette, Part, Rgb, palette_of, tint_of, trimmed
from sora_mcp.media.letters import LINE, Ink, wrapped, write

BADGE: Ink = (255, 255, 255, 200)
SHADOW: Ink = (0, 0, 0, 120)
"""Under the badge, which would not be seen on a bright picture."""
BAND: Ink = (14, 14, 20, 255)
BAND_SHARE = 0.18
"""Of the height, whatever the words: in a video made from another, the band covers the one below it."""


class Card(Struct, frozen=True):
    """A picture that stands from `frame` on: an image, a still of a video, or (without a file) its label."""

    frame: int
    label: str
    file: Path | None = None
    still: int = 0


class Clip(Struct, frozen=True):
    """Frames of an earlier video, `first` to `last` (None: its end)."""

    file: Path
    first: int = 0
    last: int | None = None


class Scene(Struct, frozen=True):
    """What a video shows. Sizes in pixels, times in frames.

    One clip makes a remix, changed by `amount` (1..8); two make a cross-fade from the first to the second.
    """

    width: int
    height: int
    n_frames: int
    prompt: str
    variant: int = 1
    captions: tuple[tuple[int, str], ...] = ()
    cards: tuple[Card, ...] = ()
    clips: tuple[Clip | Card, ...] = ()
    amount: float = 4.0
    fps: int = FPS


def render(scene: Scene, target: Path) -> None:
    """Render `scene` and put it at `target`, whole or not at all."""
    part = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.mp4")
    try:
        _encode(_frames(scene), scene, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _encode(frames: Iterator[Image.Image], scene: Scene, path: Path) -> None:
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=scene.fps, options={"preset": "ultrafast", "crf": "24"})
        stream.width, stream.height = scene.width, scene.height
        even = scene.width % 2 == 0 and scene.height % 2 == 0
        stream.pix_fmt = "yuv420p" if even else "yuv444p"
        stream.codec_context.time_base = Fraction(1, scene.fps)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frames(scene: Scene) -> Iterator[Image.Image]:
    pictures = _changed(scene) if len(scene.clips) == 1 else _faded(scene) if len(scene.clips) == 2 else _painted(scene)
    overlays = _Overlays(scene)
    for index, picture in zip(range(scene.n_frames), pictures, strict=False):
        for part, corner, mask in overlays.at(index):
            picture.paste(part, corner, mask)
        yield picture


def _painted(scene: Scene) -> Iterator[Image.Image]:
    """The prompt's landscape, and each card from its frame on, slowly drawing nearer."""
    land = Landscape(scene.prompt, scene.variant, scene.width, scene.height)
    cards = [(card.frame, _picture(card, scene)) for card in sorted(scene.cards, key=lambda card: card.frame)]
    for index in range(scene.n_frames):
        shown = [(start, picture) for start, picture in cards if start <= index]
        if not shown:
            yield land.frame(index / max(1, scene.n_frames - 1))
            continue
        start, picture = shown[-1]
        yield _nearer(picture, (index - start) / max(1, scene.n_frames - start), scene.variant)


def _nearer(picture: Image.Image, progress: float, variant: int) -> Image.Image:
    """A picture that slowly draws nearer, each variant to another part of it; at its start all of it is shown."""
    left, top = _NEAR_TO[(variant - 1) % len(_NEAR_TO)]
    width, height = picture.width * 0.14 * progress, picture.height * 0.14 * progress
    box = (width * left, height * top, picture.width - width * (1 - left), picture.height - height * (1 - top))
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)


_NEAR_TO = ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.5, 1.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.5), (1.0, 0.5), (0.5, 0.0))
"""Shares of what is left out that are left out at the left and at the top."""


def _changed(scene: Scene) -> Iterator[Image.Image]:
    """The source in the colours of the prompt's landscape, and from the middle amount on that landscape over it.

    `amount` says how far: the least leaves the source almost as it is, in the most it is only just seen.
    """
    colours, mixed = scene.amount / 8, 0.75 * max(0.0, scene.amount - 3) / 5
    land = Landscape(scene.prompt, scene.variant, scene.width, scene.height, light_of=1)
    dark, middle, bright = _tones(palette_of(scene.prompt, scene.variant))
    tint = Image.new("RGB", (scene.width, scene.height), tint_of(scene.variant))
    for index, source in zip(range(scene.n_frames), _source(scene.clips[0], scene), strict=False):
        coloured = ImageOps.colorize(source.convert("L"), dark, bright, middle)
        tinted = ImageChops.multiply(source, tint) if scene.variant > 1 else source
        picture = Image.blend(tinted, coloured, colours)
        yield Image.blend(picture, land.frame(index / max(1, scene.n_frames - 1)), mixed) if mixed else picture


def _tones(palette: Palette) -> tuple[Rgb, Rgb, Rgb]:
    """What dark, middle and bright parts of a source become."""

    def brightness(colour: Rgb) -> int:
        return sum(colour)

    return min(palette.land[2], palette.sky[0], key=brightness), palette.sky[1], palette.light


def _faded(scene: Scene) -> Iterator[Image.Image]:
    """From the first to the second: all at once, or each variant from another side."""
    first, second = (_source(clip, scene) for clip in scene.clips)
    order = _order((scene.width, scene.height), scene.variant)
    for index, a, b in zip(range(scene.n_frames), first, second, strict=False):
        share = min(1.0, max(0.0, 2 * index / max(1, scene.n_frames - 1) - 0.5))
        if order is None:
            yield Image.blend(a, b, share)
            continue
        edge = share * (255 + _SOFT)
        yield Image.composite(
            b, a, order.point([max(0, min(255, round((edge - at) * 255 / _SOFT))) for at in range(256)])
        )


_SOFT = 64
"""Width of the edge between two videos, where the whole picture is 255."""


def _order(size: tuple[int, int], variant: int) -> Image.Image | None:
    """For each pixel, how early (0) or late (255) it becomes the second video; None: all at the same time."""
    down, round_ = Image.linear_gradient("L"), Image.radial_gradient("L")
    turn, out = Image.Transpose.ROTATE_90, ImageOps.invert
    orders = (None, down.transpose(turn), round_, out(down), out(down.transpose(turn)), out(round_), down)
    order = orders[(variant - 1) % len(orders)]
    return None if order is None else order.resize(size)


def _source(clip: Clip | Card, scene: Scene) -> Iterator[Image.Image]:
    """Frames of the right size; the last one stands when the source is shorter than what is made of it."""
    if isinstance(clip, Card):
        return repeat(_picture(clip, scene))
    return _held(ImageOps.fit(image, (scene.width, scene.height)) for image in _decoded(clip))


def _held(images: Iterator[Image.Image]) -> Iterator[Image.Image]:
    last = next(images)
    for image in chain([last], images):
        last = image
        yield image
    yield from repeat(last)


def _decoded(clip: Clip) -> Iterator[Image.Image]:
    """The frames of a clip; one that begins past the end of its file is that file's last frame."""
    frame = None
    with av.open(str(clip.file)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if clip.last is not None and index > clip.last:
                return
            if index >= clip.first:
                yield frame.to_image()  # type: ignore[no-untyped-call]
        if frame is not None and index < clip.first:
            yield frame.to_image()  # type: ignore[no-untyped-call]


def _picture(card: Card, scene: Scene) -> Image.Image:
    size = (scene.width, scene.height)
    if card.file is None:
        return _named(card.label, size)
    if card.file.suffix == ".mp4":
        return ImageOps.fit(next(_decoded(Clip(card.file, card.still))), size)
    with card.file.open("rb") as file, Image.open(file) as picture:  # Pillow leaves open what it cannot read
        return ImageOps.fit(ImageOps.exif_transpose(picture).convert("RGB"), size)


def _named(label: str, size: tuple[int, int]) -> Image.Image:
    """A card for an image that the sandbox does not fetch: it says what would be here."""
    image = Image.new("RGB", size, (58, 62, 74))
    text_size = max(14, size[0] // 30)
    text = wrapped(f"an image from {label}", text_size, size[0] * 0.8, 3)
    ImageDraw.Draw(image).rectangle((12, 12, size[0] - 13, size[1] - 13), outline=(150, 154, 166), width=2)
    write(image, (size[0] / 2, size[1] / 2), text, text_size, anchor="mm")
    return image


class _Overlays:
    """The words over the picture, drawn once for each caption."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._captions = sorted(scene.captions)
        self._drawn: dict[str, list[Part]] = {}

    def at(self, index: int) -> list[Part]:
        caption = next((text for start, text in reversed(self._captions) if start <= index), "")
        if caption not in self._drawn:
            self._drawn[caption] = self._draw(caption)
        return self._drawn[caption]

    def _draw(self, caption: str) -> list[Part]:
        scene = self._scene
        badge = Image.new("RGBA", (scene.width, scene.height), (0, 0, 0, 0))
        unit = max(12, min(scene.width, scene.height) // 19)
        for shift, fill in ((1, SHADOW), (0, BADGE)):
            corner = (scene.width - unit + shift, unit + shift)
            write(badge, corner, "SANDBOX", max(11, unit * 3 // 4), fill=fill, anchor="ra")
        if not (scene.prompt or caption or scene.clips):
            return [trimmed(badge)]
        band = _band(scene, caption)
        top = scene.height - band.height
        return [trimmed(badge.crop((0, 0, scene.width, top))), (band.convert("RGB"), (0, top), None)]


def _band(scene: Scene, caption: str) -> Image.Image:
    """The words on a band along the lower edge; opaque, so that those of a remix cover those of its source."""
    band = Image.new("RGBA", (scene.width, max(1, round(scene.height * BAND_SHARE))), BAND)
    unit = max(8, min(scene.width // 19, int(band.height * 0.29)))
    small = max(7, unit * 3 // 4)
    rows = [(scene.prompt, small, 1), (caption, unit, 2)] if caption else [(scene.prompt, unit, 2)]
    words = [(wrapped(text, size, scene.width - 2 * unit, lines), size) for text, size, lines in rows if text]
    heights = [size * LINE * (text.count("\n") + 1) for text, size in words]
    y = (band.height - sum(heights)) / 2
    for (text, size), height in zip(words, heights, strict=True):
        write(band, (unit, y + height / 2), text, size, anchor="lm")
        y += height
    return band
