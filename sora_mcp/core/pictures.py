"""Pictures: what is to be seen in one, and what kind it is, which stands at the beginning of its bytes."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

PictureFormat = Literal["jpeg", "png"]
"""How a picture is written: small, or exact."""

MOST_STILLS = 16
"""On one sheet."""


class Moment(Struct, frozen=True):
    """A place in a video: a frame of its file, or (where `frame` is None) a time in seconds."""

    frame: int | None = None
    second: float = 0.0

    def __str__(self) -> str:
        return f"{self.second:g} s" if self.frame is None else f"frame {self.frame}"


class View(Struct, frozen=True):
    """What is to be seen of a video: up to `frames` (1..16) stills, evenly spaced from its beginning to its end.

    Of `span` where that is set; with `at_beats` where the beats of its storyboard begin; with `at` one still alone,
    large.
    """

    frames: int = 6
    at: Moment | None = None
    span: tuple[Moment, Moment] | None = None
    at_beats: bool = False


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
