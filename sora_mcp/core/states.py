"""The states of a request, from the intent to the video, and the moves between them. Pure: both engines of the ledger
use it."""

from __future__ import annotations

from sora_mcp.core.tasks import UNDER_WAY, State

_ONCE_SUBMITTED: tuple[State, ...] = (*UNDER_WAY, "succeeded", "failed", "blocked", "lost")

TRANSITIONS: dict[State, frozenset[State]] = {
    "sending": frozenset({"submitted", "rejected", "unknown"}),
    "submitted": frozenset(_ONCE_SUBMITTED),
    "queued": frozenset(_ONCE_SUBMITTED),
    "running": frozenset(_ONCE_SUBMITTED),
    "unknown": frozenset({"submitted", "rejected"}),
    "succeeded": frozenset(),
    "failed": frozenset({"succeeded"}),
    "blocked": frozenset({"succeeded"}),
    "lost": frozenset(_ONCE_SUBMITTED),
    "rejected": frozenset({"submitted"}),
}
"""The moves allowed from each state. Any other move is ignored, so that a late answer never undoes a newer one.

A request leaves *unknown* when a person has read the gateway's own log (`settle`). A task id from the gateway is proof:
it overrides what a person said before, and so does a success. A *lost* task may be found again.
"""

STARTED: tuple[State, ...] = ("sending", *UNDER_WAY)
"""States of a video that is being sent or made."""

OPEN: tuple[State, ...] = ("sending", "unknown", *UNDER_WAY)
"""States in which a video is being made, or may be."""

REFUSED: tuple[State, ...] = ("rejected", "failed", "blocked", "lost")
"""States after which the same request may be made again."""


_DESCRIPTIONS: dict[State, str] = {
    "sending": "is being sent",
    "succeeded": "has succeeded",
    "failed": "has failed",
    "blocked": "was blocked by moderation",
    "rejected": "was not created",
    "unknown": "has an unknown outcome",
    "lost": "was lost by the server",
}


def describe_state(state: State) -> str:
    """Return the predicate of a sentence about a video in this state, such as "has failed"."""
    return _DESCRIPTIONS.get(state, f"is {state}")


def may_move(before: State, after: State) -> bool:
    """Whether a request may move from one state to another."""
    return after in TRANSITIONS[before]
