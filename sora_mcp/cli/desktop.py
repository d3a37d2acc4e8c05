"""Open files with the desktop's default program. click's `launch` lets that program write into our output."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_OPEN_TIMEOUT_S = 5
"""Seconds after which an opener that is still running is assumed to be the program that shows the file."""


def open_file(path: Path) -> str | None:
    """Open a file. Return None, or a sentence that says why it could not be opened. Raises nothing."""
    if os.name == "nt":
        return _open_on_windows(path)
    is_mac = sys.platform == "darwin"
    if not is_mac and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return f"There is no display to open it on: the file is {path}"
    opener = shutil.which("open" if is_mac else "xdg-open")
    if opener is None:
        return f"There is no program here that opens files (xdg-open): the file is {path}"
    try:
        process = subprocess.Popen(  # noqa: S603 - the desktop's own opener
            [opener, os.path.abspath(path)],  # noqa: PTH100 - symbolic links stay
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        failed = process.wait(_OPEN_TIMEOUT_S) != 0
    except subprocess.TimeoutExpired:
        failed = False
    except OSError:
        failed = True
    return f"It could not be opened here: the file is {path}" if failed else None


def _open_on_windows(path: Path) -> str | None:
    try:
        os.startfile(path)  # type: ignore[attr-defined]  # noqa: S606 - there is one on Windows only
    except OSError:
        return f"There is no program here that opens it: the file is {path}"
    return None
