"""A studio for one piece of work at the shell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import SoraError
from sora_mcp.runtime.signals import run
from sora_mcp.studio import Studio

T = TypeVar("T")


def in_studio(settings: Settings, work: Callable[[Studio], Awaitable[T]]) -> T:
    """What `work` returns. Raises its SoraError, which would leave the studio's task group inside another."""

    async def opened() -> T | SoraError:
        async with Studio.open(settings) as studio:
            try:
                return await work(studio)
            except SoraError as error:
                return error

    done = run(opened)
    if isinstance(done, SoraError):
        raise done
    return done
