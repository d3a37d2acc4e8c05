"""Terminals that tests open for programs."""

from __future__ import annotations

import os
import select
import time


def shown_until(terminal: int, words: bytes = b"", within_s: float = 60) -> bytes:
    """What a terminal shows, until `words` appear or the program at its other end is gone."""
    give_up_at = time.monotonic() + within_s
    shown = b""
    while not words or words not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, give_up_at - time.monotonic()))
        assert ready, f"nothing more came within {within_s:g} s after {shown!r}"
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    return shown
