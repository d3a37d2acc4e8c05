"""Signals that end a process, as the cancellation of what it does."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import anyio


def _nothing() -> None: ...


async def cancel_on(scope: anyio.CancelScope, *which: signal.Signals, before: Callable[[], None] = _nothing) -> None:
    """Call `before` and cancel `scope` at each of these signals, until cancelled."""
    if sys.platform == "win32":  # no signals to receive: a process is ended there
        return
    with anyio.open_signal_receiver(*which) as signals:
        async for _ in signals:
            before()
            scope.cancel()
