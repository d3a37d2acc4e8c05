"""Terminals that tests open for programs."""

from __future__ import annotations

import os


def shown_until(terminal: int, words: bytes = b"") -> bytes:
    """What a terminal shows, until `words` appear or the program at its other end is gone."""
    shown = b""
    while not words or words not in shown:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    return shown
