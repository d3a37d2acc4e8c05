"""A bar on stderr while a person waits: how far, how long, in what state. Nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Self, TextIO

import anyio

from sora_mcp.cli.terminal import columns, is_dumb, is_terminal
from sora_mcp.tools import Progress

_FULL, _EMPTY = "█", "░"


class Bar:
    """Progress of one call; `tell` is what the tools call, `tick` keeps the elapsed time going.

    One line, drawn over itself, never wider than the terminal; on one that cannot do that, a line for each state.
    """

    def __init__(self, *, hidden: bool, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._hidden = hidden or not is_terminal(self._stream)
        self._in_place = not is_dumb()
        self._began = time.monotonic()
        self._share = 0.0
        self._words = ""
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Leave the line empty, for something else to be written there."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False

    async def tell(self, progress: Progress) -> None:
        """Show what goes on, and how much of it is done."""
        self.show(progress.share or 0.0, progress.activity)

    def show(self, share: float, words: str) -> None:
        """Show so many words about so much, of 1."""
        is_new = words != self._words
        self._share, self._words = share, words
        if self._in_place:
            self._draw()
        elif is_new and not self._hidden:
            self._stream.write(f"{self._words}\n")
            self._stream.flush()

    async def tick(self) -> None:
        """Draw twice a second, until cancelled."""
        while self._in_place and not self._hidden:
            await anyio.sleep(0.5)
            self._draw()

    def _draw(self) -> None:
        if self._hidden or not self._words:
            return
        seconds = int(time.monotonic() - self._began)
        tail = f" {self._share:4.0%} {self._words} {seconds // 60}:{seconds % 60:02d}"
        width = max(0, min(40, columns() - len(tail) - 1))
        full = round(width * self._share)
        self._stream.write(f"\r\x1b[K{_FULL * full}{_EMPTY * (width - full)}{tail}")
        self._stream.flush()
        self._drawn = True
