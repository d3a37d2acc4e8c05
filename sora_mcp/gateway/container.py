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

_FILM = _NEEDED | {b"moof"}
"""Boxes that hold the film: it is cut off where one of them is."""

_PADDING = {b"free", b"skip", b"wide", b"pnot"}
_BEFORE_FRAGMENTS = {b"styp", b"sidx", b"emsg", b"prft"}
"""Boxes that may stand before `ftyp` or a fragment, and in files that have none, as QuickTime writes them."""

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_video(head: bytes) -> bool:
    """MP4 and MOV (their first box) or WebM and Matroska (EBML), by their first bytes.

    Boxes without `ftyp` before them are known by a plausible size too: their names are words of texts.
    """
    if head[:4] == _EBML or head[4:8] == b"ftyp":
        return True
    if head[4:8] in _PADDING:
        return head[0] < ord("\t")
    return head[4:8] in _FILM | _BEFORE_FRAGMENTS and head[0] < ord(" ")


def is_whole(path: Path, size: int) -> bool:
    """Whether nothing of the film is missing in a video of `size` bytes. Raises ValueError: it has no end.

    What stands behind the film, or is no part of it, may be anything, and may be cut off.
    """
    with path.open("rb") as file:
        walk = _is_whole_webm if file.read(4) == _EBML else _is_whole_mp4
        return walk(file, size)


def _is_whole_mp4(file: BinaryIO, size: int) -> bool:
    """Walk the top-level boxes (ISO/IEC 14496-12 §4.2).

    A box size of 1 is followed by one of 64 bits; a size of 0 means: to the end.
    """
    at, seen = 0, set[bytes]()
    for _ in range(MOST_PARTS):
        if at == size:
            return seen >= _NEEDED
        file.seek(at)
        head = file.read(16)
        length, least = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, least = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = size - at
        at += length
        if len(head) < least or length < least or at > size:
            return seen >= _NEEDED and not _goes_on(head[4:8], seen)
        seen.add(head[4:8])
    raise ValueError("too many boxes")


def _goes_on(kind: bytes, seen: set[bytes]) -> bool:
    """Whether the film goes on in a box that is cut off, or whose head is (its `kind` is then shorter)."""
    is_fragmented = b"moof" in seen and b"mfra" not in seen
    return kind in _FILM or (is_fragmented and (len(kind) < 4 or kind in _BEFORE_FRAGMENTS))


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
            return has_segment
        is_segment = head[:kind_ends] == _SEGMENT
        length = int.from_bytes(head[kind_ends:begins], "big") & ((1 << bits) - 1)
        if length == (1 << bits) - 1:
            return has_segment or is_segment
        at += begins + length
        if at > size:
            return has_segment and not is_segment
        has_segment = has_segment or is_segment
    raise ValueError("too many elements")
