"""Terminals that tests open for programs."""

from __future__ import annotations

import os
import select
import time

CTRL_C = b"\x03"
RETRY_DELAY_S = 5


def read_terminal(terminal: int, words: bytes = b"", within_s: float = 60, *, typed: bytes = b"") -> bytes:
    """What a terminal shows, until `words` appear or the program at its other end is gone.

    `typed`: what was typed last. Ctrl-C is typed again where nothing comes of it: in the moment before it reads, Python
    notes the signal and then waits all the same.
    """
    give_up_at = time.monotonic() + within_s
    shown = b""
    while not words or words not in shown:
        left_s = max(0.0, give_up_at - time.monotonic())
        ready, _, _ = select.select([terminal], [], [], min(left_s, RETRY_DELAY_S) if typed == CTRL_C else left_s)
        if not ready and typed == CTRL_C and left_s:
            os.write(terminal, CTRL_C)
            continue
        assert ready, f"nothing more came within {within_s:g} s after {shown!r}"
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    return shown
