"""Signals that end a process, as the cancellation of what it does."""

from __future__ import annotations

import signal
import sys

import anyio


async def cancel_on(scope: anyio.CancelScope, *which: signal.Signals) -> None:
    """Cancel `scope` at each of these signals, until cancelled."""
    if sys.platform == "win32":  # no signals to receive: a process is ended there
        return
    with anyio.open_signal_receiver(*which) as signals:
        async for _ in signals:
            scope.cancel()
