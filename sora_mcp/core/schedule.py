"""When a task is polled: by itself, ever more rarely, and by somebody who wants to know. Times are unix seconds."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_PAUSE_S = 60.0
"""The longest pause, in seconds, between two polls of a task that succeed."""
LONGEST_BACKOFF_S = 600.0
"""The same where polls fail; no gateway is left alone for longer, whatever it asks for."""
_MOST_DOUBLINGS = 10

LEASE_S = 3.0
"""Seconds after which a lease that nobody keeps alive is void: the process that had it is gone."""


def may_be_polled(now: float, *, polled_at: float | None, not_before: float | None) -> bool:
    """Whether somebody who wants to know may ask the gateway at `now`.

    What the clock said before it went back does not count.
    """
    return not_before is None or not (polled_at or 0) <= now < not_before


def is_due(
    now: float,
    pace_s: float,
    *,
    created_at: float,
    polled_at: float | None,
    not_before: float | None,
    failed_polls: int,
) -> bool:
    """Whether it is time for the next poll by itself: every `pace_s` seconds at first, ever more rarely later."""
    last = polled_at or created_at
    pause = min(max(pace_s, (now - created_at) / 10), LONGEST_PAUSE_S)
    pause = min(pause * 2 ** min(failed_polls, _MOST_DOUBLINGS), LONGEST_BACKOFF_S)
    return not last <= now < last + pause and may_be_polled(now, polled_at=polled_at, not_before=not_before)


def pause_after_failure(pace_s: float, tick_s: float, failed_polls: int) -> float:
    """Seconds in which nobody asks again after a poll that failed: `tick_s` at first, `pace_s` at most."""
    return min(pace_s, tick_s * 2.0 ** min(failed_polls, _MOST_DOUBLINGS))


HISTORY = 20
"""How many of the newest successes tell what is usual."""
_ENOUGH = 5
_LONGEST_S = 3600.0
"""What took longer was looked at late: it tells nothing."""


def usual(durations_s: Sequence[float]) -> float | None:
    """Seconds that a video usually takes, where there are enough of them to say so."""
    credible = sorted(each for each in durations_s if 0 < each < _LONGEST_S)
    return credible[len(credible) // 2] if len(credible) >= _ENOUGH else None
