"""Ways to damage a ledger's files in place, as other programs would: truncate, overwrite, remove.

They write in another process: opening and closing an SQLite file here would release its locks.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

Damage = Callable[[Path], None]
"""Takes the ledger's path."""

_WRITE = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(int(sys.argv[2])); f.write(bytes.fromhex(sys.stdin.read()))"


def write(path: Path, at: int, data: bytes) -> None:
    """Overwrite a part of a file in place, in another process."""
    command = [sys.executable, "-c", _WRITE, str(path), str(at)]
    subprocess.run(command, check=True, input=data.hex(), text=True)  # noqa: S603


def read(path: Path) -> bytes:
    """The contents of a file, read in another process."""
    return subprocess.run(["cat", str(path)], check=True, capture_output=True).stdout  # noqa: S603, S607


def restore(path: Path, data: bytes) -> None:
    """Restore the contents of a file, in the same inode."""
    subprocess.run(["cp", "/dev/stdin", str(path)], check=True, input=data)  # noqa: S603, S607


def as_after_a_kill(folder: Path, copy: Path) -> None:
    """Copy the files that a server would leave behind if it were killed now."""
    subprocess.run(["cp", "-a", str(folder), str(copy)], check=True)  # noqa: S603, S607


def part(path: Path, name: str) -> Path:
    """One of the ledger's files, by its suffix."""
    return path.with_name(path.name + name)


def cut_to(name: str, size: int) -> Damage:
    return lambda path: _truncate(part(path, name), size)


def cut(name: str, share: float) -> Damage:
    """Truncate a file to this share of its size."""
    return lambda path: _truncate(part(path, name), int(part(path, name).stat().st_size * share))


def cut_last_bytes(name: str, count: int) -> Damage:
    return lambda path: _truncate(part(path, name), part(path, name).stat().st_size - count)


def _truncate(path: Path, size: int) -> None:
    subprocess.run(["truncate", "-s", str(size), str(path)], check=True)  # noqa: S603, S607


def overwrite(name: str, share: float, count: int = 64) -> Damage:
    """Write garbage at this share of a file."""

    def damage(path: Path) -> None:
        target = part(path, name)
        write(target, int((target.stat().st_size - count) * share), b"\xa5" * count)

    return damage


def remove(*names: str) -> Damage:
    def damage(path: Path) -> None:
        for name in names:
            part(path, name).unlink(missing_ok=True)

    return damage


def together(*damages: Damage) -> Damage:
    def damage(path: Path) -> None:
        for each in damages:
            each(path)

    return damage


def empty_database(path: Path) -> None:
    """Replace the ledger by an SQLite file without tables."""
    remove("", "-wal", "-shm")(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 0")
        db.execute("VACUUM")
