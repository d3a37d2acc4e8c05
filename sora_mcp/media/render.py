"""Real H.264 for the sandbox: exactly the size and the number of frames that were asked for."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path

import av
from PIL import Image, ImageChops, ImageDraw, ImageOps

from sora_mcp.core.tables import FPS
from sora_mcp.media.drawing import WHITE, Ink, font, wrapped
from sora_mcp.media.landscape import Landscape, palette_of

BAND: Ink = (14, 14, 20, 255)
BAND_SHARE = 0.18
"""Of the height, whatever the words: in a video made from another, the band covers the one below it."""


@dataclass(frozen=True, slots=True)
class Card:
    """A picture that stands from `frame` on: an image, a still of a video, or (without a file) its label."""

    frame: int
    label: str
    file: Path | None = None
    still: int = 0


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of an earlier video, `first` to `last` (None: its end)."""

    file: Path
    first: int = 0
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Scene:
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
        stream = container.add_stream("libx264", rate=scene.fps, options={"preset": "veryfast", "crf": "24"})
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
        overlay = overlays.at(index)
        picture.paste(overlay, (0, 0), overlay)
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
        yield _nearer(picture, (index - start) / max(1, scene.n_frames - start))


def _nearer(picture: Image.Image, progress: float) -> Image.Image:
    margin_x, margin_y = picture.width * 0.07 * progress, picture.height * 0.07 * progress
    box = (margin_x, margin_y, picture.width - margin_x, picture.height - margin_y)
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)


def _changed(scene: Scene) -> Iterator[Image.Image]:
    """The source tinted towards the prompt's light and mixed with its landscape; `amount` says how far."""
    share = scene.amount / 8
    land = Landscape(scene.prompt, scene.variant, scene.width, scene.height)
    red, green, blue = ((value + 255) // 2 for value in palette_of(scene.prompt).sky[1])
    tint = Image.new("RGB", (scene.width, scene.height), (red, green, blue))
    for index, source in zip(range(scene.n_frames), _source(scene.clips[0], scene), strict=False):
        tinted = Image.blend(source, ImageChops.multiply(source, tint), share)
        yield Image.blend(tinted, land.frame(index / max(1, scene.n_frames - 1)), 0.6 * share)


def _faded(scene: Scene) -> Iterator[Image.Image]:
    first, second = (_source(clip, scene) for clip in scene.clips)
    for index, a, b in zip(range(scene.n_frames), first, second, strict=False):
        share = min(1.0, max(0.0, 2 * index / max(1, scene.n_frames - 1) - 0.5))
        yield Image.blend(a, b, share)


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
    draw, text_size = ImageDraw.Draw(image), max(14, size[0] // 30)
    text = wrapped(draw, f"an image from {label}", text_size, int(size[0] * 0.8), 3)
    draw.rectangle((12, 12, size[0] - 13, size[1] - 13), outline=(150, 154, 166), width=2)
    draw.multiline_text((size[0] / 2, size[1] / 2), text, fill=WHITE, font=font(text_size), anchor="mm", align="center")
    return image


class _Overlays:
    """The words over the picture, drawn once for each caption."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._captions = sorted(scene.captions)
        self._drawn: dict[str, Image.Image] = {}

    def at(self, index: int) -> Image.Image:
        caption = next((text for start, text in reversed(self._captions) if start <= index), "")
        if caption not in self._drawn:
            self._drawn[caption] = self._draw(caption)
        return self._drawn[caption]

    def _draw(self, caption: str) -> Image.Image:
        scene = self._scene
        overlay = Image.new("RGBA", (scene.width, scene.height), (0, 0, 0, 0))
        unit = max(12, min(scene.width, scene.height) // 19)
        draw, badge = ImageDraw.Draw(overlay), font(max(11, unit * 3 // 4))
        draw.text((scene.width - unit, unit), "SANDBOX", fill=(255, 255, 255, 190), font=badge, anchor="ra")
        if scene.prompt or caption or scene.clips:
            band = _band(scene, caption)
            overlay.paste(band, (0, scene.height - band.height))
        return overlay


def _band(scene: Scene, caption: str) -> Image.Image:
    """The words on a band along the lower edge; opaque, so that those of a remix cover those of its source."""
    band = Image.new("RGBA", (scene.width, max(1, round(scene.height * BAND_SHARE))), BAND)
    draw = ImageDraw.Draw(band)
    unit = max(8, min(scene.width // 19, int(band.height * 0.29)))
    small = max(7, unit * 3 // 4)
    rows = [(scene.prompt, small, 1), (caption, unit, 2)] if caption else [(scene.prompt, unit, 2)]
    words = [(wrapped(draw, text, size, scene.width - 2 * unit, lines), size) for text, size, lines in rows if text]
    heights = [size * 1.25 * (text.count("\n") + 1) for text, size in words]
    y = (band.height - sum(heights)) / 2
    for (text, size), height in zip(words, heights, strict=True):
        draw.multiline_text((unit, y + height / 2), text, fill=WHITE, font=font(size), anchor="lm", spacing=size / 4)
        y += height
    return band
