"""Checking by its container whether a file is a video, and whole."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

MAX_PARTS = 100_000
"""Boxes or elements of a file that are read; a fragmented video of an hour has a few thousand."""

HEAD_BYTES = 8
"""Bytes at the start of a file that tell its type."""

_REQUIRED_BOXES = {b"moov", b"mdat"}
"""Boxes without which an MP4 file shows nothing: a cut between two boxes would go unnoticed otherwise."""

_MEDIA_BOXES = _REQUIRED_BOXES | {b"moof"}
"""Boxes that hold the film: it is cut off if one of them is."""

_PADDING_BOXES = {b"free", b"skip", b"wide", b"pnot"}
_LEADING_BOXES = {b"styp", b"sidx", b"emsg", b"prft"}
"""Boxes that may come before `ftyp` or a fragment, and in files without either, as QuickTime writes them."""

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_video(head: bytes) -> bool:
    """Whether the first bytes are those of MP4 or MOV (their first box), or of WebM or Matroska (EBML).

    Boxes without `ftyp` before them need a plausible size too: their names are words that occur in texts.
    """
    if head[:4] == _EBML or head[4:8] == b"ftyp":
        return True
    if head[4:8] in _PADDING_BOXES:
        return head[0] < ord("\t")
    return head[4:8] in _MEDIA_BOXES | _LEADING_BOXES and head[0] < ord(" ")


def is_whole(path: Path, size: int) -> bool:
    """Whether nothing of the film is missing in a video of `size` bytes. Raises ValueError if it has too many parts.

    What comes after the film, or is no part of it, may be anything, and may be cut off.
    """
    with path.open("rb") as file:
        walk = _is_whole_webm if file.read(4) == _EBML else _is_whole_mp4
        return walk(file, size)


def _is_whole_mp4(file: BinaryIO, size: int) -> bool:
    """Walk the top-level boxes (ISO/IEC 14496-12 §4.2).

    A box size of 1 is followed by one of 64 bits; a size of 0 means: to the end.
    """
    offset, box_types = 0, set[bytes]()
    for _ in range(MAX_PARTS):
        if offset == size:
            return box_types >= _REQUIRED_BOXES
        file.seek(offset)
        head = file.read(16)
        length, header_length = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header_length = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = size - offset
        offset += length
        if len(head) < header_length or length < header_length or offset > size:
            return box_types >= _REQUIRED_BOXES and not _continues(head[4:8], box_types)
        box_types.add(head[4:8])
    raise ValueError("too many boxes")


def _continues(box_type: bytes, box_types: set[bytes]) -> bool:
    """Whether the film goes on in a box that is cut off, or whose head is (its `box_type` is then shorter)."""
    is_fragmented = b"moof" in box_types and b"mfra" not in box_types
    return box_type in _MEDIA_BOXES or (is_fragmented and (len(box_type) < 4 or box_type in _LEADING_BOXES))


def _is_whole_webm(file: BinaryIO, size: int) -> bool:
    """Walk the top-level elements (RFC 8794 §4 to §6), one of which is the segment that holds the pictures.

    A length of all ones means that it is unknown, as in a live recording; the element may extend to the end.
    """
    offset, has_segment = 0, False
    for _ in range(MAX_PARTS):
        if offset == size:
            return has_segment
        file.seek(offset)
        head = file.read(12)
        id_end = 9 - head[0].bit_length()
        bits = 7 * (9 - head[id_end].bit_length()) if len(head) > id_end else 0
        header_end = id_end + bits // 7
        if not 0 < bits < 63 or len(head) < header_end:
            return has_segment
        is_segment = head[:id_end] == _SEGMENT
        length = int.from_bytes(head[id_end:header_end], "big") & ((1 << bits) - 1)
        if length == (1 << bits) - 1:
            return has_segment or is_segment
        offset += header_end + length
        if offset > size:
            return has_segment and not is_segment
        has_segment = has_segment or is_segment
    raise ValueError("too many elements")
