"""Whoever calls a tool, and what they are told while it runs."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anyio
from msgspec import Struct, field

from sora_mcp.core.pictures import PictureFormat
from sora_mcp.core.results import Download
from sora_mcp.studio import Confirm
from sora_mcp.tools.agent_wording import FOR_AGENTS
from sora_mcp.tools.wording import LONGEST_WAIT_S, Wording

if TYPE_CHECKING:
    from sora_mcp.core.batches import BatchLine


class Progress(Struct, frozen=True):
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


class Patience:
    """How long a host lets a call wait, as far as that is known. `most_s`: a wait takes no longer, in seconds.

    Some hosts give a call up after 5 or 10 s. Once one has, the next waits end before that. A user who cancels a call
    may look the same, so that waits become longer again once enough of them have run their whole length; after each
    further time-out it takes twice as many.
    """

    def __init__(self, clock: Callable[[], float] = anyio.current_time) -> None:
        self.most_s = LONGEST_WAIT_S
        self._clock = clock
        self._time_outs = 0
        self._whole_waits = 0
        """How many ran their whole length since `most_s` last changed."""

    @contextmanager
    def waiting(self, wait_s: float) -> Iterator[None]:
        """A wait of so many seconds. What cancels it after a while is taken for the host's time-out."""
        began = self._clock()
        try:
            yield
        except anyio.get_cancelled_exc_class():
            if wait_s:
                self._gave_up_after(self._clock() - began)
            raise
        if wait_s >= self.most_s and self._clock() - began >= wait_s:
            self._waited_whole()

    def _gave_up_after(self, waited_s: float) -> None:
        fitting_s = round(waited_s * _SHARE)
        if waited_s < _SHORTEST_TIME_OUT_S or fitting_s >= self.most_s:
            return
        self._time_outs += 1
        self.most_s, self._whole_waits = fitting_s, 0

    def _waited_whole(self) -> None:
        self._whole_waits += 1
        if self._whole_waits >= 2 ** (self._time_outs - 1):
            self.most_s, self._whole_waits = min(2 * self.most_s, LONGEST_WAIT_S), 0


_SHORTEST_TIME_OUT_S = 4.0
"""No host is known that gives up sooner; a user who thinks better of it is."""
_SHARE = 0.8
"""Of the time after which a host gave up: the rest is for the answer's way. No wait becomes shorter than 3 s by it."""


class Links(Protocol):
    """Signed links for a caller who is on another machine: they read no file of this one. Each works for `lasts_s`
    seconds. All methods raise SoraError and nothing else."""

    @property
    def lasts_s(self) -> int: ...

    async def to_video(self, download: Download) -> str:
        """A link to a video that is saved here."""

    async def for_image(self) -> str:
        """A link by which one image can be sent."""

    async def has_image(self, name: str) -> bool:
        """Whether the caller has sent the image of this name (`upload:…`), and it is still here."""


class Caller(Struct, frozen=True):
    """Whoever called, as far as a tool can speak to them.

    `confirm`: None where nobody can be asked; `answers`: the call brings the answer to a question that one before it
    ended with; `wording`: how results are worded; `patience`: how long a call may wait; `picture_format`: how pictures
    are given; `board_format`: the same of the plan of a storyboard, None where nobody would see it. `links`: None where
    the caller is on this machine. `save_as`: the file that a download is to become, None for one in the output folder;
    `line`: that of a batch file, where a paid call comes from one.

    Each `progress` of a call is further than the one before: the protocol demands it (specification 2025-11-25,
    basic/utilities/progress), however slowly or fast things go.
    """

    progress: TellProgress = _silent
    confirm: Confirm | None = None
    answers: bool = False
    wording: Wording = FOR_AGENTS
    patience: Patience = field(default_factory=Patience)
    picture_format: PictureFormat = "jpeg"
    board_format: PictureFormat | None = "jpeg"
    links: Links | None = None
    line: BatchLine | None = None
    save_as: Path | None = None


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
