"""Images as files: their kind, end, size and orientation, by their own headers.

Only the structure is read, nothing is decoded: that protects this process, and needs no Pillow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

Kind = Literal["png", "jpg", "webp", "heic", "avif"]

MIME_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
"""The kinds that gateways take; the others are converted."""

_BRANDS: dict[bytes, Kind] = dict.fromkeys([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"], "heic")
_BRANDS |= dict.fromkeys([b"avif", b"avis"], "avif")
"""Brands of a HEIF file (ISO/IEC 23008-12) by the codec of its pictures. A generic brand defers to a specific one."""

_MAX_PARTS = 100_000
"""Segments or chunks of a file that are read."""


def kind_of(content: bytes) -> Kind | None:
    """Return the kind of an image, by its first bytes; None for anything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return _heif_kind(content) if content[4:8] == b"ftyp" else None


def _heif_kind(content: bytes) -> Kind | None:
    brands = [content[8:12], *re.findall(rb"(?s).{4}", content[16 : min(int.from_bytes(content[:4], "big"), 256)])]
    kinds = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    return "avif" if "avif" in kinds else kinds[0] if kinds else None


def trim(content: bytes) -> bytes | None:
    """Return an image up to its end, without trailing data: phones append a video. None if it is not a whole image.

    The end of a HEIF file is not determined.
    """
    kind = kind_of(content)
    end = _END_READERS[kind](content) if kind in _END_READERS else len(content) if kind else None
    return None if end is None else content[:end]


def _png_end(content: bytes) -> int | None:
    """Return the end of IEND, the last chunk (PNG §5.6); if an earlier chunk is damaged, search for its constant
    bytes."""
    if content[8:16] != b"\0\0\0\rIHDR":
        return None
    for name, data, end in _png_chunks(content):
        if name == b"IEND" and data == b"":
            return end
    last = content.find(b"\0\0\0\0IEND\xaeB`\x82", 16)
    return last + 12 if last > 0 else None


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield name, the first 64 KB of the data and the end of each whole chunk."""
    offset = 8
    for _ in range(_MAX_PARTS):
        length = int.from_bytes(content[offset : offset + 4], "big")
        end = offset + 12 + length
        if offset + 12 > len(content) or end > len(content):
            return
        yield content[offset + 4 : offset + 8], content[offset + 8 : offset + 8 + min(length, 65_536)], end
        offset = end


def _webp_end(content: bytes) -> int | None:
    """Return the end of its RIFF chunk, with any padding (RFC 9649 §2.3); the chunks inside must fit into it."""
    end = 8 + int.from_bytes(content[4:8], "little")
    if content[12:16] not in {b"VP8 ", b"VP8L", b"VP8X"} or end > len(content):
        return None
    offset = 12
    for _ in range(_MAX_PARTS):
        if offset + 8 > end:
            break
        offset += 8 + int.from_bytes(content[offset + 4 : offset + 8], "little")
        if offset > end:
            return None
        offset += offset % 2
    return min(len(content), end + end % 2)


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""In the data of a scan: any marker except the restart markers (ITU-T T.81 §B.1.1)."""
_EOI, _SOS = 0xD9, 0xDA
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each whole segment up to the first scan."""
    offset = 2
    for _ in range(_MAX_PARTS):
        if content[offset : offset + 1] != b"\xff" or offset + 4 > len(content):
            return
        marker, length = content[offset + 1], int.from_bytes(content[offset + 2 : offset + 4], "big")
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        if marker == _EOI or length < 2 or offset + 2 + length > len(content):
            return
        yield marker, offset + 4, offset + 2 + length
        if marker == _SOS:
            return
        offset += 2 + length


def _jpeg_end(content: bytes) -> int | None:
    """Return the end of the end marker that follows a frame and its scans; thumbnails and videos have their own."""
    has_frame, offset = False, 0
    for marker, _, end in _jpeg_segments(content):
        has_frame = has_frame or _is_frame(marker)
        offset = end if marker == _SOS else offset
    for _ in range(_MAX_PARTS if has_frame and offset else 0):
        match = _JPEG_MARKER.search(content, offset)
        if match is None:
            return None
        if match[0][1] == _EOI:
            return match.end()
        offset = match.end() + max(2, int.from_bytes(content[match.end() : match.end() + 2], "big"))
    return None


def _is_frame(marker: int) -> bool:
    """Whether the segment is a SOF, which has the size of the picture."""
    return 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES


_END_READERS = {"png": _png_end, "jpg": _jpeg_end, "webp": _webp_end}


def size_of(content: bytes) -> tuple[int, int]:
    """Return the width and height in pixels that a whole PNG, JPEG or WebP states: the largest, if it states
    several."""
    sizes = list(_SIZE_READERS[kind_of(content) or "png"](content))
    return max((width for width, _ in sizes), default=0), max((height for _, height in sizes), default=0)


def _png_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield its size; libpng itself refuses sides of more than a million pixels before decoding anything."""
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    if max(width, height) <= 1_000_000:
        yield width, height


def _jpeg_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    for marker, start, end in _jpeg_segments(content):
        if _is_frame(marker) and end - start >= 5:
            yield (
                int.from_bytes(content[start + 3 : start + 5], "big"),
                int.from_bytes(content[start + 1 : start + 3], "big"),
            )


def _webp_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size of the canvas, and of each picture in it (RFC 9649 §2.5 to §2.7): a decoder may use any of
    them."""
    offset = 12
    while offset + 8 <= len(content):
        name, length = content[offset : offset + 4], int.from_bytes(content[offset + 4 : offset + 8], "little")
        data = content[offset + 8 : offset + 8 + min(length, 24)]
        if name == b"VP8X":
            yield int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
        elif name == b"ANMF":
            yield int.from_bytes(data[6:9], "little") + 1, int.from_bytes(data[9:12], "little") + 1
        elif name == b"VP8L":
            bits = int.from_bytes(data[1:5], "little")
            yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif name == b"VP8 ":
            yield int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
        offset += 8 + length + length % 2


_SIZE_READERS = {"png": _png_sizes, "jpg": _jpeg_sizes, "webp": _webp_sizes}

UPRIGHT = 1
"""EXIF's orientation (CIPA DC-008 §4.6.4) of a picture that is shown as it is stored; 2 to 8 have to be turned."""


def orientation_of(content: bytes) -> int:
    """Return the orientation, 1 to 8, in the EXIF data of a whole PNG, JPEG or WebP; 1 if there is none."""
    kind = kind_of(content)
    exif = next(_EXIF_READERS[kind](content), b"") if kind in _EXIF_READERS else b""
    byte_order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"

    def read_int(offset: int, size: int) -> int:
        return int.from_bytes(exif[offset : offset + size], byte_order)

    entries = read_int(4, 4)
    for offset in range(entries + 2, entries + 2 + 12 * min(read_int(entries, 2), 1000), 12):
        if read_int(offset, 2) == 0x0112 and read_int(offset + 2, 2) == 3 and offset + 10 <= len(exif):
            value = read_int(offset + 8, 2)
            return value if UPRIGHT <= value <= 8 else UPRIGHT
    return UPRIGHT


def _jpeg_exif(content: bytes) -> Iterator[bytes]:
    for marker, start, end in _jpeg_segments(content):
        if marker == 0xE1 and content[start : start + 6] == _EXIF:
            yield content[start + 6 : end]


def _png_exif(content: bytes) -> Iterator[bytes]:
    for name, data, _ in _png_chunks(content):
        if name == b"eXIf":
            yield data.removeprefix(_EXIF)


def _webp_exif(content: bytes) -> Iterator[bytes]:
    offset = 12
    for _ in range(_MAX_PARTS):
        name, length = content[offset : offset + 4], int.from_bytes(content[offset + 4 : offset + 8], "little")
        if len(name) < 4:
            return
        if name == b"EXIF":
            yield content[offset + 8 : offset + 8 + min(length, 65_536)].removeprefix(_EXIF)
        offset += 8 + length + length % 2


_EXIF = b"Exif\0\0"
_EXIF_READERS = {"png": _png_exif, "jpg": _jpeg_exif, "webp": _webp_exif}
