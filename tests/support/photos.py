"""Images as phones make them: what stands behind their end, turned by their EXIF data, HEIC."""

from __future__ import annotations

import base64
import io

from PIL import Image, ImageDraw

FILM = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + b"a private film \xff\xd9 IEND" * 400
"""What a phone puts behind a picture: the seconds before it, with bytes in it that look like an end."""

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
"""As `corner` makes it, upright."""


def corner(kind: str, orientation: int = 1, **options: object) -> bytes:
    """64x48 pixels, red, blue in the upper left quarter as it is stored; `orientation` is EXIF's."""
    image = Image.new("RGB", (64, 48), RED)
    ImageDraw.Draw(image).rectangle((0, 0, 31, 23), fill=BLUE)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
        options["exif"] = exif
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def find_corner(content: bytes) -> tuple[tuple[int, int], str]:
    """The size of an image as it is stored, and the quarter of it that is blue."""
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
