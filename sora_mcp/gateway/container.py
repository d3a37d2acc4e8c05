"""Whether a file is a video, and whole, by what its container says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

MOST_PARTS = 100_000
"""Boxes or elements of a file that are looked at; a fragmented video of an hour has a few thousand."""

HEAD_BYTES = 8
"""So many bytes at the start of a file tell what it is."""

_NEEDED = {b"moov", b"mdat"}
"""Boxes without which an MP4 file shows nothing: a cut between two boxes would not be seen otherwise."""

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_video(head: bytes) -> bool:
    """MP4 and MOV (`ftyp` box) or WebM and Matroska (EBML), by their first bytes."""
    return head[4:8] == b"ftyp" or head[:4] == _EBML


def is_whole(path: Path, size: int) -> bool:
    """Whether nothing is missing at the end of a video of `size` bytes. Raises ValueError: it has no end."""
    with path.open("rb") as file:
        walk = _is_whole_webm if file.read(4) == _EBML else _is_whole_mp4
        return walk(file, size)


def _is_whole_mp4(file: BinaryIO, size: int) -> bool:
    """Walk the top-level boxes (ISO/IEC 14496-12 §4.2).

    A box size of 1 is followed by one of 64 bits; a size of 0 means: to the end.
    """
    at, missing = 0, set(_NEEDED)
    for _ in range(MOST_PARTS):
        if at == size:
            return not missing
        file.seek(at)
        head = file.read(16)
        length, least = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, least = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = size - at
        at += length
        if len(head) < least or length < least or at > size:
            return False
        missing.discard(head[4:8])
    raise ValueError("too many boxes")


def _is_whole_webm(file: BinaryIO, size: int) -> bool:
    """Walk the top-level elements (RFC 8794 §4 to §6), one of which is the segment that holds the pictures.

    One whose length is all ones does not say it, as in a live recording, and may go on to the end.
    """
    at, has_segment = 0, False
    for _ in range(MOST_PARTS):
        if at == size:
            return has_segment
        file.seek(at)
        head = file.read(12)
        kind_ends = 9 - head[0].bit_length()
        bits = 7 * (9 - head[kind_ends].bit_length()) if len(head) > kind_ends else 0
        begins = kind_ends + bits // 7
        if not 0 < bits < 63 or len(head) < begins:
            return False
        has_segment = has_segment or head[:kind_ends] == _SEGMENT
        length = int.from_bytes(head[kind_ends:begins], "big") & ((1 << bits) - 1)
        if length == (1 << bits) - 1:
            return has_segment
        at += begins + length
        if at > size:
            return False
    raise ValueError("too many elements")
