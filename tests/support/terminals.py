"""Terminals that tests open for programs."""

from __future__ import annotations

import os
import select
import time

CTRL_C = b"\x03"
RETRY_DELAY_S = 5
TIMEOUT_S = 60


def read_terminal(terminal: int, text: bytes = b"", *, typed: bytes = b"") -> bytes:
    """Read a terminal's output until `text` appears or the program at its other end exits.

    `typed` is the last input. Ctrl-C is typed again if it has no effect: just before a read, Python notes the signal
    and then waits all the same.
    """
    deadline = time.monotonic() + TIMEOUT_S
    output = b""
    while not text or text not in output:
        remaining_s = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(
            [terminal], [], [], min(remaining_s, RETRY_DELAY_S) if typed == CTRL_C else remaining_s
        )
        if not ready and typed == CTRL_C and remaining_s:
            os.write(terminal, CTRL_C)
            continue
        assert ready, f"nothing more came within {TIMEOUT_S} s after {output!r}"
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    return output
