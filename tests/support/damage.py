"""Ways to harm a ledger's files as other programs would, in place: cut, emptied, overwritten, removed.

They write in a process of their own: to open and close a file of SQLite's here would give back its locks.
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
    """What a file holds, read in another process."""
    return subprocess.run(["cat", str(path)], check=True, capture_output=True).stdout  # noqa: S603, S607


def put_back(path: Path, data: bytes) -> None:
    """A file as it was, in the same inode."""
    subprocess.run(["cp", "/dev/stdin", str(path)], check=True, input=data)  # noqa: S603, S607


def as_after_a_kill(folder: Path, copy: Path) -> None:
    """What a server that is killed now would leave behind."""
    subprocess.run(["cp", "-a", str(folder), str(copy)], check=True)  # noqa: S603, S607


def part(path: Path, name: str) -> Path:
    """One of the ledger's files by the end of its name."""
    return path.with_name(path.name + name)


def cut_to(name: str, size: int) -> Damage:
    return lambda path: _truncate(part(path, name), size)


def cut(name: str, share: float) -> Damage:
    """Leaves that share of a file."""
    return lambda path: _truncate(part(path, name), int(part(path, name).stat().st_size * share))


def cut_last_bytes(name: str, count: int) -> Damage:
    return lambda path: _truncate(part(path, name), part(path, name).stat().st_size - count)


def _truncate(path: Path, size: int) -> None:
    subprocess.run(["truncate", "-s", str(size), str(path)], check=True)  # noqa: S603, S607


def overwrite(name: str, share: float, count: int = 64) -> Damage:
    """Garbage at that share of a file."""

    def harm(path: Path) -> None:
        found = part(path, name)
        write(found, int((found.stat().st_size - count) * share), b"\xa5" * count)

    return harm


def remove(*names: str) -> Damage:
    def harm(path: Path) -> None:
        for name in names:
            part(path, name).unlink(missing_ok=True)

    return harm


def together(*harms: Damage) -> Damage:
    def harm(path: Path) -> None:
        for each in harms:
            each(path)

    return harm


def empty_database(path: Path) -> None:
    """A file of SQLite's without a table."""
    remove("", "-wal", "-shm")(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 0")
        db.execute("VACUUM")
