"""The process that draws one contact sheet, or takes one frame: `python -m sora_mcp.media.worker`, started by `viewer`.

It reads one line of JSON from stdin, and writes one line of JSON and then the picture to stdout. It ends with its
parent (the end of stdin), with its time and with its memory, whatever the video that it decodes makes it do.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sora_mcp.core.errors import NotConfigured
from sora_mcp.media.extra import require
from sora_mcp.media.frames import frame
from sora_mcp.media.stills import contact_sheet
from sora_mcp.media.unviewable import Unviewable

GRACE_S = 2
"""Seconds beyond its time after which the system ends this process, should its parent not have done so."""


def main() -> None:
    """Draw what is asked for on stdin."""
    line = sys.stdin.buffer.readline()
    if not line:
        return
    asked = json.loads(line)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit(asked["seconds"], asked["memory_bytes"])
    head, picture = _answer(asked)
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + picture)
    sys.stdout.buffer.flush()
    os._exit(0)  # the thread may still be blocked in a read of stdin


def _answer(asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """What is said of the video, or why it cannot be shown, and the picture."""
    try:
        require()
    except NotConfigured:
        return {"reason": "not_installed"}, b""
    try:
        if "index" in asked:
            one = frame(Path(asked["video"]), asked["index"], asked["max_bytes"])
            return {"probe": asdict(one.probe), "frames": 1}, one.picture
        sheet = contact_sheet(Path(asked["video"]), asked["frames"], asked["format"])
    except Unviewable as error:
        return {"reason": error.reason}, b""
    except (MemoryError, RuntimeError):  # RuntimeError: no memory for a thread
        return {"reason": "memory"}, b""
    return {"probe": asdict(sheet.probe), "frames": sheet.frames}, sheet.picture


def _end_with_parent() -> None:
    """End when nobody holds the other end of stdin any more: the parent is gone, however it went."""
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    os._exit(1)


def _limit(seconds: float, memory_bytes: int) -> None:
    """Have the system end this process where it goes on too long, and refuse it more memory. Not on Windows."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - there is none on Windows

    signal.alarm(math.ceil(seconds + GRACE_S))  # SIGALRM, which nobody handles, ends a process in the midst of anything
    with suppress(ValueError, OSError):  # macOS knows the limit and may refuse to set it
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
