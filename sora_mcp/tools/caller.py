"""The caller of a tool, and the progress reported to them while it runs."""

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
from sora_mcp.tools.wording import MAX_WAIT_S, Wording

if TYPE_CHECKING:
    from sora_mcp.core.batches import BatchLine


class Progress(Struct, frozen=True):
    """How far a call is: `done` of `total` (None: not known), in seconds or bytes, and a message.

    `activity` is the current activity in a word or two, `share` (0..1; None: not known) how much of it is done.
    """

    done: float
    total: float | None
    message: str
    activity: str
    share: float | None


ProgressCallback = Callable[[Progress], Awaitable[None]]


async def _ignore_progress(_: Progress) -> None: ...


class HostTimeout:
    """How long a host lets a call wait, as far as that is known. `max_wait_s`: the longest wait, in seconds.

    Some hosts abandon a call after 5 or 10 s. Once one has, later waits end before that. A call cancelled by the user
    looks the same, so waits become longer again once enough of them have run in full; each further timeout doubles the
    number required.
    """

    def __init__(self, clock: Callable[[], float] = anyio.current_time) -> None:
        self.max_wait_s = MAX_WAIT_S
        self._clock = clock
        self._timeouts = 0
        self._full_waits = 0
        """Waits that ran in full since `max_wait_s` last changed."""

    @contextmanager
    def waiting(self, wait_s: float) -> Iterator[None]:
        """Observe a wait of `wait_s` seconds. A cancellation after a while counts as the host's timeout."""
        began = self._clock()
        try:
            yield
        except anyio.get_cancelled_exc_class():
            if wait_s:
                self._record_timeout(self._clock() - began)
            raise
        if wait_s >= self.max_wait_s and self._clock() - began >= wait_s:
            self._record_full_wait()

    def _record_timeout(self, waited_s: float) -> None:
        safe_wait_s = round(waited_s * _SAFE_SHARE)
        if waited_s < _MIN_TIMEOUT_S or safe_wait_s >= self.max_wait_s:
            return
        self._timeouts += 1
        self.max_wait_s, self._full_waits = safe_wait_s, 0

    def _record_full_wait(self) -> None:
        self._full_waits += 1
        if self._full_waits >= 2 ** (self._timeouts - 1):
            self.max_wait_s, self._full_waits = min(2 * self.max_wait_s, MAX_WAIT_S), 0


_MIN_TIMEOUT_S = 4.0
"""No known host gives up sooner; an earlier cancellation is the user's."""
_SAFE_SHARE = 0.8
"""Share of a host's timeout that a wait may use; the rest is for the answer's way. No wait gets shorter than 3 s."""


class Links(Protocol):
    """Signed links for a caller on another machine, who cannot read files of this one. Each works for `ttl_s` seconds.
    All methods raise SoraError and nothing else."""

    @property
    def ttl_s(self) -> int: ...

    async def to_video(self, download: Download) -> str:
        """Return a link to a video that is saved here."""

    async def for_image(self) -> str:
        """Return a link for uploading one image."""

    async def has_image(self, name: str) -> bool:
        """Whether the caller has uploaded the image of this name (`upload:…`), and it is still here."""


class Caller(Struct, frozen=True):
    """The caller of a tool, and how to communicate with them.

    `confirm`: asks the user, None if nobody can be asked. `answers`: the call carries the answer to the question that
    an earlier one ended with. `wording`: how results are worded. `host_timeout`: how long a call may wait.
    `picture_format`: how pictures are encoded; `board_format`: likewise for the plan of a storyboard, None if nobody
    would see it. `links`: None if the caller is on this machine. `save_as`: the file to download to, None for one in
    the output folder. `line`: the line of a batch file that a paid call comes from.

    Each `progress` of a call is greater than the one before: the protocol requires it (specification 2025-11-25,
    basic/utilities/progress), whatever the speed.
    """

    progress: ProgressCallback = _ignore_progress
    confirm: Confirm | None = None
    answers: bool = False
    wording: Wording = FOR_AGENTS
    host_timeout: HostTimeout = field(default_factory=HostTimeout)
    picture_format: PictureFormat = "jpeg"
    board_format: PictureFormat | None = "jpeg"
    links: Links | None = None
    line: BatchLine | None = None
    save_as: Path | None = None


SILENT_CALLER = Caller()
"""A caller who gets no progress and cannot be asked."""


def monotonic_progress(callback: ProgressCallback) -> ProgressCallback:
    """Return a callback that passes on only progress greater than what it passed on before."""
    last = -math.inf

    async def report(progress: Progress) -> None:
        nonlocal last
        if progress.done > last:
            last = progress.done
            await callback(progress)

    return report
