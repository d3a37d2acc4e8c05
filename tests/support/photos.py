"""Images as phones make them: with data after their end, rotated by EXIF, in HEIC."""

from __future__ import annotations

import base64
import io

from PIL import Image, ImageDraw

FILM = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + b"a private film \xff\xd9 IEND" * 400
"""A clip that a phone appends to a picture, with bytes that look like an end of image."""

BLUE, RED = (30, 30, 200), (200, 30, 30)

HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABoQABAAAAAAAAADMAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5j"
    "bHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBp"
    "eGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAADttZGF0AAAALygBrxmA94RJf/BCiNLzaDNXivsJhj6z/IDGsrjI"
    "ztiG4lP7AODxO+7IHhiEjwWA"
)
"""The image of `corner`, upright."""


def corner(format_name: str, orientation: int = 1, **options: object) -> bytes:
    """A 64x48 red image whose upper left quarter, as stored, is blue; `orientation` is the EXIF value."""
    image = Image.new("RGB", (64, 48), RED)
    ImageDraw.Draw(image).rectangle((0, 0, 31, 23), fill=BLUE)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def find_corner(content: bytes) -> tuple[tuple[int, int], str]:
    """The size of an image as stored, and its blue quarter."""
    with Image.open(io.BytesIO(content)) as image:
        stored = image.convert("RGB")
    width, height = stored.size
    quarters = {
        "upper left": (0.25, 0.25),
        "upper right": (0.75, 0.25),
        "lower left": (0.25, 0.75),
        "lower right": (0.75, 0.75),
    }
    blue = [
        name
        for name, (x, y) in quarters.items()
        if stored.getpixel((int(x * width), int(y * height)))[2] > 128  # type: ignore[index]
    ]
    assert len(blue) == 1, blue
    return stored.size, blue[0]
