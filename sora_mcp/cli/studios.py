"""A studio that is open for one command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import SoraError
from sora_mcp.runtime.signals import run
from sora_mcp.studio import Studio

T = TypeVar("T")


def run_in_studio(settings: Settings, work: Callable[[Studio], Awaitable[T]]) -> T:
    """Run `work` in a studio and return its result. Raise its SoraError, not the task group's exception group."""

    async def run_work() -> T | SoraError:
        async with Studio.open(settings) as studio:
            try:
                return await work(studio)
            except SoraError as error:
                return error

    result = run(run_work)
    if isinstance(result, SoraError):
        raise result
    return result
