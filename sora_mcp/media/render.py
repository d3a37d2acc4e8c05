"""H.264 rendering for the sandbox, with exactly the requested size and number of frames."""

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
from sora_mcp.media.landscape import Landscape, Overlay, Palette, Rgb, palette_for, tint_for, trim
from sora_mcp.media.typesetting import LINE_SPACING, Rgba, draw_text, wrap

BADGE_COLOUR: Rgba = (255, 255, 255, 200)
SHADOW_COLOUR: Rgba = (0, 0, 0, 120)
"""Behind the badge, which would be invisible on a bright picture."""
BAND_COLOUR: Rgba = (14, 14, 20, 255)
BAND_SHARE = 0.18
"""Of the height, for any text: in a video made from another, the band covers the one below it."""


class Card(Struct, frozen=True):
    """A picture shown from `frame` on: an image, a still of a video, or (without a file) its label."""

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
    """The contents of a video. Sizes are in pixels, times in frames.

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
    """Render `scene` to `target` atomically."""
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
    pictures = (
        _remixed(scene) if len(scene.clips) == 1 else _cross_faded(scene) if len(scene.clips) == 2 else _composed(scene)
    )
    overlays = _Overlays(scene)
    for index, picture in zip(range(scene.n_frames), pictures, strict=False):
        for part, corner, mask in overlays.at(index):
            picture.paste(part, corner, mask)
        yield picture


def _composed(scene: Scene) -> Iterator[Image.Image]:
    """The landscape of the prompt, and each card from its frame on, slowly zoomed in."""
    land = Landscape(scene.prompt, scene.variant, scene.width, scene.height)
    cards = [(card.frame, _load_card(card, scene)) for card in sorted(scene.cards, key=lambda card: card.frame)]
    for index in range(scene.n_frames):
        visible = [(start, picture) for start, picture in cards if start <= index]
        if not visible:
            yield land.frame(index / max(1, scene.n_frames - 1))
            continue
        start, picture = visible[-1]
        yield _zoomed(picture, (index - start) / max(1, scene.n_frames - start), scene.variant)


def _zoomed(picture: Image.Image, progress: float, variant: int) -> Image.Image:
    """Zoom into a picture, each variant into another part of it; at the start all of it is visible."""
    left, top = _ZOOM_CENTRES[(variant - 1) % len(_ZOOM_CENTRES)]
    width, height = picture.width * 0.14 * progress, picture.height * 0.14 * progress
    box = (width * left, height * top, picture.width - width * (1 - left), picture.height - height * (1 - top))
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)


_ZOOM_CENTRES = (
    (0.5, 0.5),
    (0.0, 0.0),
    (1.0, 0.0),
    (0.5, 1.0),
    (0.0, 1.0),
    (1.0, 1.0),
    (0.0, 0.5),
    (1.0, 0.5),
    (0.5, 0.0),
)
"""Fractions of the cropped width and height that are cropped at the left and at the top."""


def _remixed(scene: Scene) -> Iterator[Image.Image]:
    """The source in the colours of the prompt's landscape, blended with that landscape for amounts over 3.

    The lowest `amount` leaves the source almost unchanged; at the highest it is barely visible.
    """
    colour_strength, overlay_strength = scene.amount / 8, 0.75 * max(0.0, scene.amount - 3) / 5
    land = Landscape(scene.prompt, scene.variant, scene.width, scene.height, light_variant=1)
    dark, middle, bright = _tones(palette_for(scene.prompt, scene.variant))
    tint = Image.new("RGB", (scene.width, scene.height), tint_for(scene.variant))
    for index, source in zip(range(scene.n_frames), _source_frames(scene.clips[0], scene), strict=False):
        coloured = ImageOps.colorize(source.convert("L"), dark, bright, middle)
        tinted = ImageChops.multiply(source, tint) if scene.variant > 1 else source
        picture = Image.blend(tinted, coloured, colour_strength)
        yield (
            Image.blend(picture, land.frame(index / max(1, scene.n_frames - 1)), overlay_strength)
            if overlay_strength
            else picture
        )


def _tones(palette: Palette) -> tuple[Rgb, Rgb, Rgb]:
    """The colours for dark, middle and bright parts of a source."""

    def brightness(colour: Rgb) -> int:
        return sum(colour)

    return min(palette.land[2], palette.sky[0], key=brightness), palette.sky[1], palette.light


def _cross_faded(scene: Scene) -> Iterator[Image.Image]:
    """The transition from the first clip to the second: a dissolve, or a wipe from another side in each variant."""
    first, second = (_source_frames(clip, scene) for clip in scene.clips)
    order = _wipe_order((scene.width, scene.height), scene.variant)
    for index, a, b in zip(range(scene.n_frames), first, second, strict=False):
        share = min(1.0, max(0.0, 2 * index / max(1, scene.n_frames - 1) - 0.5))
        if order is None:
            yield Image.blend(a, b, share)
            continue
        edge = share * (255 + _EDGE_WIDTH)
        yield Image.composite(
            b, a, order.point([max(0, min(255, round((edge - at) * 255 / _EDGE_WIDTH))) for at in range(256)])
        )


_EDGE_WIDTH = 64
"""Width of the edge between two videos, relative to 255 for the whole picture."""


def _wipe_order(size: tuple[int, int], variant: int) -> Image.Image | None:
    """For each pixel, how early (0) or late (255) it changes to the second video; None: all at the same time."""
    down, round_ = Image.linear_gradient("L"), Image.radial_gradient("L")
    quarter_turn, invert = Image.Transpose.ROTATE_90, ImageOps.invert
    orders = (
        None,
        down.transpose(quarter_turn),
        round_,
        invert(down),
        invert(down.transpose(quarter_turn)),
        invert(round_),
        down,
    )
    order = orders[(variant - 1) % len(orders)]
    return None if order is None else order.resize(size)


def _source_frames(clip: Clip | Card, scene: Scene) -> Iterator[Image.Image]:
    """Frames of the right size; the last one is repeated if the source is shorter than the scene."""
    if isinstance(clip, Card):
        return repeat(_load_card(clip, scene))
    return _hold_last(ImageOps.fit(image, (scene.width, scene.height)) for image in _decode(clip))


def _hold_last(images: Iterator[Image.Image]) -> Iterator[Image.Image]:
    last = next(images)
    for image in chain([last], images):
        last = image
        yield image
    yield from repeat(last)


def _decode(clip: Clip) -> Iterator[Image.Image]:
    """The frames of a clip; just the last frame of the file if the clip begins past its end."""
    frame = None
    with av.open(str(clip.file)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if clip.last is not None and index > clip.last:
                return
            if index >= clip.first:
                yield frame.to_image()  # type: ignore[no-untyped-call]
        if frame is not None and index < clip.first:
            yield frame.to_image()  # type: ignore[no-untyped-call]


def _load_card(card: Card, scene: Scene) -> Image.Image:
    size = (scene.width, scene.height)
    if card.file is None:
        return _placeholder(card.label, size)
    if card.file.suffix == ".mp4":
        return ImageOps.fit(next(_decode(Clip(card.file, card.still))), size)
    with card.file.open("rb") as file, Image.open(file) as picture:  # Pillow leaves open what it cannot read
        return ImageOps.fit(ImageOps.exif_transpose(picture).convert("RGB"), size)


def _placeholder(label: str, size: tuple[int, int]) -> Image.Image:
    """A card for an image that the sandbox does not fetch: it names the image's host."""
    image = Image.new("RGB", size, (58, 62, 74))
    text_size = max(14, size[0] // 30)
    text = wrap(f"an image from {label}", text_size, size[0] * 0.8, 3)
    ImageDraw.Draw(image).rectangle((12, 12, size[0] - 13, size[1] - 13), outline=(150, 154, 166), width=2)
    draw_text(image, (size[0] / 2, size[1] / 2), text, text_size, anchor="mm")
    return image


class _Overlays:
    """The text over the picture, drawn once for each caption."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._captions = sorted(scene.captions)
        self._by_caption: dict[str, list[Overlay]] = {}

    def at(self, index: int) -> list[Overlay]:
        caption = next((text for start, text in reversed(self._captions) if start <= index), "")
        if caption not in self._by_caption:
            self._by_caption[caption] = self._draw(caption)
        return self._by_caption[caption]

    def _draw(self, caption: str) -> list[Overlay]:
        scene = self._scene
        badge = Image.new("RGBA", (scene.width, scene.height), (0, 0, 0, 0))
        unit = max(12, min(scene.width, scene.height) // 19)
        for shift, fill in ((1, SHADOW_COLOUR), (0, BADGE_COLOUR)):
            corner = (scene.width - unit + shift, unit + shift)
            draw_text(badge, corner, "SANDBOX", max(11, unit * 3 // 4), fill=fill, anchor="ra")
        if not (scene.prompt or caption or scene.clips):
            return [trim(badge)]
        band = _band(scene, caption)
        top = scene.height - band.height
        return [trim(badge.crop((0, 0, scene.width, top))), (band.convert("RGB"), (0, top), None)]


def _band(scene: Scene, caption: str) -> Image.Image:
    """Draw the text on a band along the lower edge; opaque, so that the text of a remix covers that of its source."""
    band = Image.new("RGBA", (scene.width, max(1, round(scene.height * BAND_SHARE))), BAND_COLOUR)
    unit = max(8, min(scene.width // 19, int(band.height * 0.29)))
    small = max(7, unit * 3 // 4)
    rows = [(scene.prompt, small, 1), (caption, unit, 2)] if caption else [(scene.prompt, unit, 2)]
    lines_of_text = [(wrap(text, size, scene.width - 2 * unit, lines), size) for text, size, lines in rows if text]
    heights = [size * LINE_SPACING * (text.count("\n") + 1) for text, size in lines_of_text]
    y = (band.height - sum(heights)) / 2
    for (text, size), height in zip(lines_of_text, heights, strict=True):
        draw_text(band, (unit, y + height / 2), text, size, anchor="lm")
        y += height
    return band
