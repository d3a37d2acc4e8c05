"""Whoever calls a tool, and what they are told while it runs."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sora_mcp.studio import Confirm
from sora_mcp.tools.wording import FOR_AGENTS, Wording


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call is: `done` of `total` (None: not known), in seconds or bytes, and a message.

    `activity` is what goes on, in a word or two, and `share` (0..1; None: not known) how much of that is done.
    """

    done: float
    total: float | None
    message: str
    activity: str
    share: float | None


TellProgress = Callable[[Progress], Awaitable[None]]


async def _silent(_: Progress) -> None: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever called, as far as a tool can speak to them. `confirm`: None where nobody can be asked; `wording`: how
    results are worded.

    Each `progress` of a call is further than the one before: the protocol demands it (specification 2025-11-25,
    basic/utilities/progress), however slowly or fast things go.
    """

    progress: TellProgress = _silent
    confirm: Confirm | None = None
    wording: Wording = FOR_AGENTS


NOBODY = Caller()
"""A caller who is told nothing and cannot be asked."""


def rising(tell: TellProgress) -> TellProgress:
    """Tells only what is further than what was told before."""
    last = -math.inf

    async def tell_further(progress: Progress) -> None:
        nonlocal last
        if progress.done > last:
            last = progress.done
            await tell(progress)

    return tell_further
