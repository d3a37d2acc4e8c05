"""File systems that are soon full, or never respond."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk_at(folder: Path, size: str) -> Iterator[Path]:
    """A file system of a `size` such as 64k; skips the test if this user cannot mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:  # noqa: S603
        pytest.skip("this user cannot mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607


@contextmanager
def silent_at(folder: Path) -> Iterator[None]:
    """Mount a file system that never responds over a folder; skips as above. At the end, waiting calls get an
    error."""
    mount = getattr(ctypes.CDLL(None), "mount", None)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("this user cannot mount a file system")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    try:
        if mount is None or mount(b"silent", os.fsencode(folder), b"fuse", 0, options):
            pytest.skip("this user cannot mount a file system")
        yield
    finally:
        os.close(device)
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)  # noqa: S603, S607
