"""Pictures of a video: what they show, and their format, which their first bytes tell."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

PictureFormat = Literal["jpeg", "png"]
"""How a picture is encoded: small, or lossless."""

MAX_STILLS = 16
"""Stills on one sheet."""


class Moment(Struct, frozen=True):
    """A position in a video: a frame of its file, or (if `frame` is None) a time in seconds."""

    frame: int | None = None
    second: float = 0.0

    def __str__(self) -> str:
        return f"{self.second:g} s" if self.frame is None else f"frame {self.frame}"


class View(Struct, frozen=True):
    """What to show of a video: up to `frames` (1..16) stills, evenly spaced over the whole video, or over `span`.

    With `at_beats`, the stills are where the beats of its storyboard begin; with `at`, there is one large still.
    """

    frames: int = 6
    at: Moment | None = None
    span: tuple[Moment, Moment] | None = None
    at_beats: bool = False


_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def format_of(picture: bytes) -> PictureFormat | None:
    """Return the format of a picture by its first bytes, or None if it is neither."""
    if picture.startswith(_PNG):
        return "png"
    return "jpeg" if picture.startswith(_JPEG) else None


def mime_type(picture: bytes) -> str:
    """Return the MIME type of a picture by its first bytes."""
    return f"image/{format_of(picture) or 'png'}"
