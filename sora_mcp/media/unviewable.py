"""The limits for videos that are decoded, and why one cannot be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem
from sora_mcp.core.pictures import Moment

if TYPE_CHECKING:
    from sora_mcp.media.film import Probe

MAX_SIDE = 8192
"""Pixels; a video with a longer side is not decoded."""
MAX_FRAMES = 20_000
"""A video with more frames is not decoded: eleven minutes at 30 frames per second."""
VIEW_TIMEOUT_S = 10.0
"""Seconds within which a video has to be viewed, including the start of the worker."""

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
"""Why a video cannot be shown."""

_MESSAGES: dict[Reason, tuple[str] | tuple[str, Do]] = {
    "unreadable": ("cannot be read as a video.", Do("Download it again.")),
    "empty": ("holds no video that can be shown.", Do("Download it again.")),
    "no_film": ("holds sound but no pictures.", Do("Download it again.")),
    "encrypted": ("is encrypted, so its pictures cannot be seen here.",),
    "damaged": ("is damaged: none of the requested frames can be decoded.", Do("Download it again.")),
    "too_large": (f"is larger than can be shown here ({MAX_SIDE} pixels a side).",),
    "too_long": (f"is larger than can be shown here ({MAX_FRAMES} frames).",),
    "slow": (f"is too large to be viewed within {VIEW_TIMEOUT_S:g} s.",),
    "memory": ("is too large to be viewed: it takes too much memory.",),
    "ended": (
        "could not be viewed: the process that decodes it ended unexpectedly.",
        Do("Try again once."),
    ),
    "stopped": ("was not viewed: this server is being stopped.", Do("Try again once the server runs again.")),
    "busy": ("was not viewed: other videos are being viewed now.", Do("Try again in a few seconds.")),
}
"""The message after the video's name, and the advice."""


class NotInFilm(Exception):
    """A requested frame or time is past the end of one of the videos."""

    def __init__(self, reel: int, moment: Moment, probe: Probe) -> None:
        super().__init__(f"{moment} of video {reel}")
        self.reel, self.moment, self.probe = reel, moment, probe


class Unviewable(FileProblem):
    """A video cannot be shown, or not now."""

    def __init__(self, reason: Reason, name: str) -> None:
        message, *advice = _MESSAGES[reason]
        super().__init__(f"{name} {message}", *advice)
        self.reason = reason
        self.name = name

    @property
    def can_retry(self) -> bool:
        return self.reason in {"ended", "busy", "stopped"}

    @property
    def may_be_played(self) -> bool:
        """Whether a player may still be able to show it."""
        return self.reason in {"encrypted", "too_large", "too_long", "slow", "memory", "ended"}
