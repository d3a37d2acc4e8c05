"""Which videos are looked at, and why one cannot be shown, or not now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem
from sora_mcp.core.pictures import Moment

if TYPE_CHECKING:
    from sora_mcp.media.film import Probe

MAX_SIDE = 8192
"""Pixels; a larger video is not decoded."""
MAX_FRAMES = 20_000
"""Frames of the longest video that is decoded: eleven minutes at 30 frames per second."""
WITHIN = 10.0
"""Seconds in which a video is looked at, the start of a process for it included, or not at all."""

Reason = Literal[
    "unreadable",
    "empty",
    "no_film",
    "encrypted",
    "damaged",
    "too_large",
    "too_long",
    "slow",
    "memory",
    "ended",
    "busy",
    "stopped",
]
"""Why a video is not shown."""

_WORDS: dict[Reason, tuple[str] | tuple[str, Do]] = {
    "unreadable": ("cannot be read as a video.", Do("Download it again.")),
    "empty": ("holds no video that can be shown.", Do("Get the video again.")),
    "no_film": ("holds sound and no pictures.", Do("Get the video again.")),
    "encrypted": ("is encrypted, so its pictures cannot be seen here.",),
    "damaged": ("is damaged: nothing of what was to be seen can be decoded.", Do("Get the video again.")),
    "too_large": (f"is larger than what is shown here ({MAX_SIDE} pixels a side).",),
    "too_long": (f"is larger than what is shown here ({MAX_FRAMES} frames).",),
    "slow": (f"is too large to be looked at within {WITHIN:g} s.",),
    "memory": ("is too large to be looked at: it takes too much memory.",),
    "ended": (
        "could not be looked at: the process that decodes it ended unexpectedly.",
        Do("Try again once."),
    ),
    "stopped": ("was not looked at: this server is being stopped.", Do("Try again once it runs again.")),
    "busy": ("was not looked at: others are being looked at now.", Do("Try again in a few seconds.")),
}
"""What is said of a video after its name, and what to do next."""


class NotInFilm(Exception):
    """A frame or a time that is wanted lies past the end of one of the videos."""

    def __init__(self, reel: int, moment: Moment, about: Probe) -> None:
        super().__init__(f"{moment} of video {reel}")
        self.reel, self.moment, self.about = reel, moment, about


class Unviewable(FileProblem):
    """A video that cannot be shown, or not now."""

    def __init__(self, reason: Reason, name: str) -> None:
        words, *advice = _WORDS[reason]
        super().__init__(f"{name} {words}", *advice)
        self.reason = reason
        self.name = name

    @property
    def can_retry(self) -> bool:
        return self.reason in {"ended", "busy", "stopped"}

    @property
    def may_be_played(self) -> bool:
        """Whether it may be a video all the same, which a player shows."""
        return self.reason in {"encrypted", "too_large", "too_long", "slow", "memory", "ended"}
