"""Videos made of bare boxes, and downloads that are looked at from outside: for the tests of downloads and proxies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from fault_gateway import Answer

from sora_mcp.core.errors import BadReply
from sora_mcp.gateway import Gateway
from sora_mcp.gateway.download import fetch

Reach = Callable[..., AbstractAsyncContextManager[Gateway]]
"""Opens the real client of a gateway."""


def box(kind: bytes, content: bytes = b"", *, size: int | None = None) -> bytes:
    """One box of an MP4 file (ISO/IEC 14496-12 §4.2); `size` is what it claims to be long."""
    return (8 + len(content) if size is None else size).to_bytes(4, "big") + kind + content


def long_box(kind: bytes, content: bytes, *, size: int | None = None) -> bytes:
    """The same with a size of 64 bits."""
    claimed = 16 + len(content) if size is None else size
    return box(kind, claimed.to_bytes(8, "big") + content, size=1)


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
MP4 = FTYP + box(b"moov", b"m" * 500) + box(b"mdat", b"v" * 3000)
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def element(kind: bytes, content: bytes, size: bytes = b"") -> bytes:
    """One element of a WebM file (RFC 8794 §4 to §6); `size` is what it claims to be long."""
    return kind + (size or (0x10000000 | len(content)).to_bytes(4, "big")) + content


WEBM = element(EBML, b"\x42\x86\x81\x01") + element(SEGMENT, b"w" * 1000)


async def save(gateway: Gateway, url: str, folder: Path) -> Path:
    target = folder / "video.mp4"
    size = await fetch(gateway, url, target, max_bytes=100_000_000, timeout_s=20)
    assert target.stat().st_size == size
    return target


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob("video*"))


async def fetch_refused(gateway: Gateway, url: str, folder: Path) -> BadReply:
    """A download that fails leaves nothing behind."""
    with pytest.raises(BadReply) as caught:
        await save(gateway, url, folder)
    assert leftovers(folder) == []
    return caught.value


def video(body: bytes) -> Answer:
    return Answer(200, body, {"Content-Type": "video/mp4"})
