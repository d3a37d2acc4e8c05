"""Turn the signals that end a process into cancellation of its work."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


def run(work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Run `work` and return its result.

    Raise KeyboardInterrupt at Ctrl-C; at the second one asyncio hides it in an exception group.
    """
    try:
        return anyio.run(work, *arguments)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from None


def _do_nothing() -> None: ...


async def cancel_on(
    scope: anyio.CancelScope, *signals: signal.Signals, before: Callable[[], None] = _do_nothing
) -> None:
    """Call `before` and cancel `scope` each time one of `signals` arrives, until cancelled."""
    if sys.platform == "win32":  # no signals to receive: a process is terminated there
        return
    with anyio.open_signal_receiver(*signals) as receiver:
        async for _ in receiver:
            before()
            scope.cancel()
