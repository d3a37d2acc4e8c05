"""Pictures as bytes: what kind they are stands at their beginning."""

from __future__ import annotations

from typing import Literal

PictureFormat = Literal["jpeg", "png"]
"""How a contact sheet is written: small, or exact."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def format_of(picture: bytes) -> PictureFormat | None:
    """The format of a picture, by its first bytes; None where it is neither."""
    if picture.startswith(_PNG):
        return "png"
    return "jpeg" if picture.startswith(_JPEG) else None


def mime_type(picture: bytes) -> str:
    """The MIME type of a picture, by its first bytes."""
    return f"image/{format_of(picture) or 'png'}"
