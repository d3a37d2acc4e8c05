"""Retrying what costs nothing: a few attempts with backoff and jitter, all inside one time limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

Result = TypeVar("Result")

IsTransient = Callable[[Exception], bool | float]
"""Whether the next attempt may succeed after this error; or the seconds to wait before it, if they are known."""


async def retry(
    attempt: Callable[[], Awaitable[Result]], is_transient: IsTransient, *, attempts: int, timeout_s: float
) -> Result:
    """Return what `attempt` returns, retried while its errors are transient: `attempts` times at most in `timeout_s`.

    Raises the last error, or TimeoutError if the time was over before there was one.
    """
    import stamina  # noqa: PLC0415 - a server starts without it

    last_error: Exception = TimeoutError()
    contexts = stamina.retry_context(
        on=is_transient, attempts=attempts, timeout=None, wait_initial=0.2, wait_max=2, wait_jitter=0.4
    )
    with anyio.move_on_after(timeout_s):
        async for each in contexts:
            with each:
                try:
                    return await attempt()
                except Exception as error:
                    last_error = error
                    raise
    raise last_error
