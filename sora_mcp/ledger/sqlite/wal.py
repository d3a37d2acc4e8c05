"""SQLite's write-ahead log, `-wal`, and the index that says how much of it counts, `-shm`, read without SQLite.

SQLite itself does not check the log again once it is in the index: it goes on appending to one that was cut. The
layout is that of https://www.sqlite.org/walformat.html.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from array import array
from pathlib import Path

from msgspec import Struct

Identity = tuple[int, int]

CAN_INSPECT = hasattr(os, "pread")
"""Whether SQLite's files can be read here: on Windows an open file cannot be deleted, which SQLite has to do."""

_INDEX_VERSION = 3007000
_HEADER, _COUNTED = 48, 136
"""Bytes of the index's header, of which there are two copies, and of all that is read of the index."""
_LOG_HEADER, _FRAME_HEADER = 32, 24
_BIG_ENDIAN_SUMS = 0x377F0683
"""The first word of a log whose checksums are made of big-endian words."""


class Index(Struct, frozen=True):
    """What counts of the log: its first `frames` frames, of which `copied` are in the file as well.

    `pages` is the size of the file as of the last of them, `last` how that one's header ends; `salts` mark every frame.
    """

    header: bytes
    page_size: int
    frames: int
    pages: int
    last: bytes
    salts: bytes
    copied: int

    def frame_end(self, frame: int) -> int:
        """Return the byte of the log at which a frame (counted from 1) ends."""
        return _LOG_HEADER + frame * (_FRAME_HEADER + self.page_size)

    def frame_start(self, frame: int) -> int:
        return self.frame_end(frame - 1)


class IndexFile:
    """The index at `path`, kept open. All that use the same one in this process share a descriptor.

    Closing one would release the locks that SQLite has on the file in this process (POSIX), so that it is only
    closed when the last of them is, after SQLite has closed its own.
    """

    _open: dict[Identity, tuple[int, int]] = {}
    """Descriptor and number of users."""
    _lock = threading.Lock()

    def __init__(self, path: Path) -> None:
        """Raises OSError if it cannot be opened."""
        with self._lock:
            status = path.stat()
            self._identity = (status.st_dev, status.st_ino)
            self._fd, users = self._open.get(self._identity, (-1, 0))
            if not users:
                self._fd = os.open(path, os.O_RDONLY)
            self._open[self._identity] = self._fd, users + 1
        self._last_read: tuple[bytes, Index | None] = b"", None
        """The bytes of the last read, and the index in them."""

    def close(self) -> None:
        """Close the file, after SQLite's own connections."""
        with self._lock:
            fd, users = self._open.pop(self._identity)
            if users > 1:
                self._open[self._identity] = fd, users - 1
            else:
                os.close(fd)

    def read(self) -> Index | None:
        """Return the index, or None if it is just being written, or was never written whole.

        Raises EOFError if it is shorter than SQLite ever makes it: a process that reads it through a mapping, as SQLite
        does, is killed by the system then.
        """
        data = os.pread(self._fd, _COUNTED, 0)
        before, index = self._last_read
        if data != before:
            index = _index(data)
            self._last_read = data, index
        return index


def _index(data: bytes) -> Index | None:
    if len(data) < _COUNTED:
        raise EOFError
    header = data[:_HEADER]
    if header != data[_HEADER : 2 * _HEADER]:
        return None
    version, _, _, is_set, _, page_size, frames, pages, *sums = struct.unpack("=IIIBBHIIIIIIII", header)
    if version != _INDEX_VERSION or not is_set or _sums(header[:40], (0, 0), sys.byteorder) != tuple(sums[-2:]):
        return None
    page_size = (page_size & 0xFE00) + ((page_size & 1) << 16)
    copied = struct.unpack_from("=I", data, 2 * _HEADER)[0]
    salts = header[32:40]
    return Index(header, page_size, frames, pages, salts + struct.pack(">II", *sums[:2]), salts, copied)


class Log:
    """The log at `path`, kept open. It has no lock, so that it may be closed at any time."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if it cannot be opened."""
        self._fd = os.open(path, os.O_RDONLY)
        self._salts = b""
        self._frames_checked = 0
        self.pages: set[int] = set()
        """Numbers of the pages in the frames that were checked so far."""

    def close(self) -> None:
        os.close(self._fd)

    def matches(self, index: Index) -> bool:
        """Return whether every frame that counts is in its place, and the last one is what SQLite wrote.

        Frames that were checked before are not checked again, except the last one.
        """
        if not index.frames:
            return True
        if os.pread(self._fd, 16, index.frame_start(index.frames) + 8) != index.last:
            return False
        if os.pread(self._fd, 8, 16) != index.salts or os.fstat(self._fd).st_size < index.frame_end(index.frames):
            return False
        return self._check_frames(index)

    def was_restarted_after(self, index: Index) -> bool:
        """Return whether the log was restarted after the index was written, which has lost its last changes then (after
        a loss of power)."""
        data = os.pread(self._fd, _LOG_HEADER, 0)
        if len(data) < _LOG_HEADER or _sums(data[:24], (0, 0), _order(data)) != struct.unpack(">II", data[24:]):
            return False
        expected, actual = (int.from_bytes(salts[:4], "big") for salts in (index.salts, data[16:24]))
        return 0 < (actual - expected) % 2**32 < 2**31

    def is_whole(self, index: Index) -> bool:
        """Return whether all frames that count hold what SQLite wrote, byte by byte: about 0.1 ms for each."""
        header = os.pread(self._fd, _LOG_HEADER, 0)
        if len(header) < _LOG_HEADER:
            return index.frames == 0
        order = _order(header)
        sums = _sums(header[:24], (0, 0), order)
        for frame in range(1, index.frames + 1):
            data = os.pread(self._fd, _FRAME_HEADER + index.page_size, index.frame_start(frame))
            if len(data) < _FRAME_HEADER + index.page_size or data[8:16] != index.salts:
                return False
            sums = _sums(data[_FRAME_HEADER:], _sums(data[:8], sums, order), order)
        return index.frames == 0 or struct.pack(">II", *sums) == index.last[8:]

    def _check_frames(self, index: Index) -> bool:
        """Return whether all frames have the same salts, up to the last one that counts."""
        if self._salts != index.salts or self._frames_checked > index.frames:
            self._salts, self._frames_checked, self.pages = index.salts, 0, set()
        for frame in range(self._frames_checked + 1, index.frames + 1):
            data = os.pread(self._fd, 16, index.frame_start(frame))
            if data[8:] != index.salts:
                return False
            self.pages.add(int.from_bytes(data[:4], "big"))
            self._frames_checked = frame
        return True


def _order(header: bytes) -> str:
    return "big" if header[:4] == _BIG_ENDIAN_SUMS.to_bytes(4, "big") else "little"


def _sums(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """SQLite's checksum of `data`, going on from `sums`."""
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first, second = sums
    pairs = iter(words)
    for one, other in zip(pairs, pairs, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
