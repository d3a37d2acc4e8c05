"""Images as files: of what kind, where they end, how large and which way up, by what they say of themselves.

Only their structure is read, nothing is unpacked: that protects this process, and needs no Pillow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

Kind = Literal["png", "jpg", "webp", "heic", "avif"]

MIME_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
"""Those that gateways take; the others are converted."""

_BRANDS: dict[bytes, Kind] = dict.fromkeys([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"], "heic")
_BRANDS |= dict.fromkeys([b"avif", b"avis"], "avif")
"""Of a HEIF file (ISO/IEC 23008-12): what codes its pictures. A general one is read as the first that is not."""

_MOST_PARTS = 100_000
"""Segments or chunks of a file that are looked at."""


def kind_of(content: bytes) -> Kind | None:
    """The kind of an image, by its first bytes; None for anything else."""
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


def whole(content: bytes) -> bytes | None:
    """An image up to its end, without what stands behind: phones put a film there. None where it is no whole image.

    Of a HEIF file nothing is known of its end.
    """
    kind = kind_of(content)
    end = _ENDS[kind](content) if kind in _ENDS else len(content) if kind else None
    return None if end is None else content[:end]


def _png_end(content: bytes) -> int | None:
    """Behind IEND, the last chunk (PNG §5.6), found by its bytes, which never change, if a chunk before is damaged."""
    if content[8:16] != b"\0\0\0\rIHDR":
        return None
    for name, data, end in _png_chunks(content):
        if name == b"IEND" and data == b"":
            return end
    last = content.find(b"\0\0\0\0IEND\xaeB`\x82", 16)
    return last + 12 if last > 0 else None


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Name, the first 64 KB of the data and the end of each whole chunk."""
    at = 8
    for _ in range(_MOST_PARTS):
        length = int.from_bytes(content[at : at + 4], "big")
        end = at + 12 + length
        if at + 12 > len(content) or end > len(content):
            return
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + min(length, 65_536)], end
        at = end


def _webp_end(content: bytes) -> int | None:
    """Where its RIFF chunk ends, with its padding, if it has any (RFC 9649 §2.3); the chunks inside fit into it."""
    end = 8 + int.from_bytes(content[4:8], "little")
    if content[12:16] not in {b"VP8 ", b"VP8L", b"VP8X"} or end > len(content):
        return None
    at = 12
    for _ in range(_MOST_PARTS):
        if at + 8 > end:
            break
        at += 8 + int.from_bytes(content[at + 4 : at + 8], "little")
        if at > end:
            return None
        at += at % 2
    return min(len(content), end + end % 2)


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""In the data of a scan: any marker but those that only set it going again (ITU-T T.81 §B.1.1)."""
_EOI, _SOS = 0xD9, 0xDA
_NO_FRAMES = {0xC4, 0xC8, 0xCC}


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each whole segment up to the first scan."""
    at = 2
    for _ in range(_MOST_PARTS):
        if content[at : at + 1] != b"\xff" or at + 4 > len(content):
            return
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == _EOI or length < 2 or at + 2 + length > len(content):
            return
        yield marker, at + 4, at + 2 + length
        if marker == _SOS:
            return
        at += 2 + length


def _jpeg_end(content: bytes) -> int | None:
    """Behind the end marker that follows a frame and its scans; thumbnails and films have their own."""
    has_frame, at = False, 0
    for marker, _, end in _jpeg_segments(content):
        has_frame = has_frame or _is_frame(marker)
        at = end if marker == _SOS else at
    for _ in range(_MOST_PARTS if has_frame and at else 0):
        match = _JPEG_MARKER.search(content, at)
        if match is None:
            return None
        if match[0][1] == _EOI:
            return match.end()
        at = match.end() + max(2, int.from_bytes(content[match.end() : match.end() + 2], "big"))
    return None


def _is_frame(marker: int) -> bool:
    """SOF: the size of the picture."""
    return 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES


_ENDS = {"png": _png_end, "jpg": _jpeg_end, "webp": _webp_end}


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height in pixels that a whole PNG, JPEG or WebP says it has: the largest, where it says several."""
    sizes = list(_SIZES[kind_of(content) or "png"](content))
    return max((width for width, _ in sizes), default=0), max((height for _, height in sizes), default=0)


def _png_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Its size; sides of more than a million pixels are refused by libpng itself, before anything is unpacked."""
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
    """Of the canvas, and of each picture in it (RFC 9649 §2.5 to §2.7): a decoder goes by any of them."""
    at = 12
    while at + 8 <= len(content):
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        data = content[at + 8 : at + 8 + min(length, 24)]
        if name == b"VP8X":
            yield int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
        elif name == b"ANMF":
            yield int.from_bytes(data[6:9], "little") + 1, int.from_bytes(data[9:12], "little") + 1
        elif name == b"VP8L":
            bits = int.from_bytes(data[1:5], "little")
            yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif name == b"VP8 ":
            yield int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
        at += 8 + length + length % 2


_SIZES = {"png": _png_sizes, "jpg": _jpeg_sizes, "webp": _webp_sizes}

UPRIGHT = 1
"""EXIF's orientation (CIPA DC-008 §4.6.4) of a picture that is shown as it is stored; up to 8, it is to be turned."""


def orientation_of(content: bytes) -> int:
    """The orientation, 1 to 8, that the EXIF data of a whole PNG, JPEG or WebP gives; 1 where there is none."""
    kind = kind_of(content)
    tiff = next(_EXIFS[kind](content), b"") if kind in _EXIFS else b""
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    entries = number(4, 4)
    for at in range(entries + 2, entries + 2 + 12 * min(number(entries, 2), 1000), 12):
        if number(at, 2) == 0x0112 and number(at + 2, 2) == 3 and at + 10 <= len(tiff):
            value = number(at + 8, 2)
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
    at = 12
    for _ in range(_MOST_PARTS):
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if len(name) < 4:
            return
        if name == b"EXIF":
            yield content[at + 8 : at + 8 + min(length, 65_536)].removeprefix(_EXIF)
        at += 8 + length + length % 2


_EXIF = b"Exif\0\0"
_EXIFS = {"png": _png_exif, "jpg": _jpeg_exif, "webp": _webp_exif}
