"""Whether a file is a video, and whole, by what its container says of itself."""

from __future__ import annotations

from pathlib import Path

MAX_BOXES = 100_000
"""Boxes of an MP4 file that are looked at; a fragmented video of an hour has a few thousand."""

HEAD_BYTES = 8
"""So many bytes at the start of a file tell what it is."""

_NEEDED = {b"moov", b"mdat"}
"""Boxes without which an MP4 file shows nothing: a cut between two boxes would not be seen otherwise."""


def is_video(head: bytes) -> bool:
    """MP4 and MOV (`ftyp` box) or WebM and Matroska (EBML), by their first bytes."""
    return head[4:8] == b"ftyp" or head[:4] == b"\x1a\x45\xdf\xa3"


def is_whole(path: Path, size: int) -> bool:
    """Walk the top-level boxes of an MP4 file of `size` bytes (ISO/IEC 14496-12 §4.2). Raises ValueError: endless.

    A box size of 1 is followed by one of 64 bits; a size of 0 means: to the end. Other kinds of video pass.
    """
    at, missing = 0, set(_NEEDED)
    with path.open("rb") as file:
        for _ in range(MAX_BOXES):
            if at == size:
                return not missing
            file.seek(at)
            head = file.read(16)
            length, least = int.from_bytes(head[:4], "big"), 8
            if at == 0 and head[4:8] != b"ftyp":
                return True
            if length == 1:
                length, least = int.from_bytes(head[8:16], "big"), 16
            elif length == 0:
                length = size - at
            at += length
            if len(head) < least or length < least or at > size:
                return False
            missing.discard(head[4:8])
    raise ValueError("too many boxes")
