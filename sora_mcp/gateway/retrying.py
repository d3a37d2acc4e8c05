"""Doing again what costs nothing: a few attempts with backoff and jitter, all inside one time limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

Result = TypeVar("Result")

MayPass = Callable[[Exception], bool | float]
"""Whether an error may be gone at the next attempt; seconds, where it is known when."""


async def until_it_works(
    attempt: Callable[[], Awaitable[Result]], may_pass: MayPass, *, attempts: int, seconds: float
) -> Result:
    """What `attempt` returns; it is made again where `may_pass` says so, at most `attempts` times within `seconds`.

    Raises the last error; TimeoutError where the time was over before there was one.
    """
    import stamina  # noqa: PLC0415 - a server starts without it

    last: Exception = TimeoutError()
    retries = stamina.retry_context(
        on=may_pass, attempts=attempts, timeout=None, wait_initial=0.2, wait_max=2, wait_jitter=0.4
    )
    with anyio.move_on_after(seconds):
        async for each in retries:
            with each:
                try:
                    return await attempt()
                except Exception as error:
                    last = error
                    raise
    raise last
