"""Which states a request may go through, from the intent to the video. Pure: no engine of the ledger knows more."""

from __future__ import annotations

from sora_mcp.core.tasks import UNDER_WAY, State

_GOING_ON: tuple[State, ...] = (*UNDER_WAY, "succeeded", "failed", "blocked", "lost")

TRANSITIONS: dict[State, frozenset[State]] = {
    "sending": frozenset({"submitted", "rejected", "unknown"}),
    "submitted": frozenset(_GOING_ON),
    "queued": frozenset(_GOING_ON),
    "running": frozenset(_GOING_ON),
    "unknown": frozenset({"submitted", "rejected"}),
    "succeeded": frozenset(),
    "failed": frozenset({"succeeded"}),
    "blocked": frozenset({"succeeded"}),
    "lost": frozenset(_GOING_ON),
    "rejected": frozenset({"submitted"}),
}
"""Where a request may go from each state; any other move is ignored, so that a late answer never undoes a later one.

*unknown* is left by a person who looked at the gateway's own log (`settle`). A task id that the gateway gave is proof:
it beats what a person said before. So does a success, whatever was said before it. What is *lost* may be found again.
"""

STARTED: tuple[State, ...] = ("sending", *UNDER_WAY)
"""States that a video goes through before it has finished."""

OPEN: tuple[State, ...] = ("sending", "unknown", *UNDER_WAY)
"""States in which a video is being made, or may be."""

REFUSED: tuple[State, ...] = ("rejected", "failed", "blocked", "lost")
"""States after which the same request may be made again."""


_PREDICATES: dict[State, str] = {
    "sending": "is being sent",
    "succeeded": "has succeeded",
    "failed": "has failed",
    "blocked": "was blocked by moderation",
    "rejected": "was not created",
    "unknown": "has an unknown outcome",
    "lost": "was lost by the server",
}


def predicate(state: State) -> str:
    """What is said of a video in this state: "has failed"."""
    return _PREDICATES.get(state, f"is {state}")


def may_move(before: State, after: State) -> bool:
    """Whether a request may go from one state to another."""
    return after in TRANSITIONS[before]
