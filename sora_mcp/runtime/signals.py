"""Signals that end a process, as the cancellation of what it does."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


def run(work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """What `work` returns. Raises KeyboardInterrupt at Ctrl-C, which asyncio hides in a group at the second one."""
    try:
        return anyio.run(work, *arguments)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from None


def _nothing() -> None: ...


async def cancel_on(scope: anyio.CancelScope, *which: signal.Signals, before: Callable[[], None] = _nothing) -> None:
    """Call `before` and cancel `scope` at each of these signals, until cancelled."""
    if sys.platform == "win32":  # no signals to receive: a process is ended there
        return
    with anyio.open_signal_receiver(*which) as signals:
        async for _ in signals:
            before()
            scope.cancel()
