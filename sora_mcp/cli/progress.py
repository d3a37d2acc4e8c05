"""A bar on stderr while a person waits: how far, how long, in what state. Nothing where stderr is no terminal."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Self, TextIO

import anyio

from sora_mcp.tools import Progress

_FULL, _EMPTY = "█", "░"


class Bar:
    """Progress of one call; `tell` is what the tools call, `tick` keeps the elapsed time going.

    One line, drawn over itself, never wider than the terminal.
    """

    def __init__(self, *, hidden: bool, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._hidden = hidden or self._stream is None or not self._stream.isatty()
        self._began = time.monotonic()
        self._share = 0.0
        self._words = ""
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    async def tell(self, progress: Progress) -> None:
        """Show what goes on, and how much of it is done."""
        self.show(progress.share or 0.0, progress.activity)

    def show(self, share: float, words: str) -> None:
        """Show so many words about so much, of 1."""
        self._share, self._words = share, words
        self._draw()

    async def tick(self) -> None:
        """Draw twice a second, until cancelled."""
        while not self._hidden:
            await anyio.sleep(0.5)
            self._draw()

    def _draw(self) -> None:
        if self._hidden or not self._words:
            return
        seconds = int(time.monotonic() - self._began)
        tail = f" {self._share:4.0%} {self._words} {seconds // 60}:{seconds % 60:02d}"
        width = max(0, min(40, shutil.get_terminal_size().columns - len(tail) - 1))
        full = round(width * self._share)
        self._stream.write(f"\r\x1b[K{_FULL * full}{_EMPTY * (width - full)}{tail}")
        self._stream.flush()
        self._drawn = True
