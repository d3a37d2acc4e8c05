"""A progress bar on stderr: fraction done, activity and elapsed time. Hidden if stderr is not a terminal."""

from __future__ import annotations

import sys
import time
from typing import Self, TextIO

import anyio

from sora_mcp.cli.terminal import is_dumb, is_terminal, terminal_width
from sora_mcp.tools import Progress

_FULL, _EMPTY = "█", "░"


class Bar:
    """Progress of one call; the tools call `report`, `tick` keeps the elapsed time going.

    One line, redrawn in place, never wider than the terminal; a dumb terminal gets a line for each state.
    """

    def __init__(self, *, hidden: bool, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._hidden = hidden or not is_terminal(self._stream)
        self._can_redraw = not is_dumb()
        self._started_at = time.monotonic()
        self._share = 0.0
        self._activity = ""
        self._is_drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Erase the line, so that something else can be written there."""
        if self._is_drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_drawn = False

    async def report(self, progress: Progress) -> None:
        """Show the progress of a tool."""
        self.update(progress.share or 0.0, progress.activity)

    def update(self, share: float, activity: str) -> None:
        """Show an activity and the share of it that is done (0..1)."""
        is_new = activity != self._activity
        self._share, self._activity = share, activity
        if self._can_redraw:
            self._draw()
        elif is_new and not self._hidden:
            self._stream.write(f"{self._activity}\n")
            self._stream.flush()

    async def tick(self) -> None:
        """Redraw twice a second, until cancelled."""
        while self._can_redraw and not self._hidden:
            await anyio.sleep(0.5)
            self._draw()

    def _draw(self) -> None:
        if self._hidden or not self._activity:
            return
        seconds = int(time.monotonic() - self._started_at)
        tail = f" {self._share:4.0%} {self._activity} {seconds // 60}:{seconds % 60:02d}"
        width = max(0, min(40, terminal_width() - len(tail) - 1))
        filled = round(width * self._share)
        self._stream.write(f"\r\x1b[K{_FULL * filled}{_EMPTY * (width - filled)}{tail}")
        self._stream.flush()
        self._is_drawn = True
