"""When a task is polled: automatically at growing intervals, or because a caller asks. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Sequence

MAX_POLL_INTERVAL_S = 60.0
"""Between two polls of a task that succeed."""
MAX_BACKOFF_S = 600.0
"""Between two polls that fail. No gateway is left alone for longer, whatever it asks for."""
_MAX_DOUBLINGS = 10

LEASE_S = 3.0
"""Seconds after which a lease that is not renewed expires: its process is dead."""


def may_be_polled(now: float, *, polled_at: float | None, not_before: float | None) -> bool:
    """Whether a caller may have the gateway asked at `now`.

    A `not_before` from before the clock was set back does not count.
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
    """Whether the next automatic poll is due: every `pace_s` seconds at first, at growing intervals later."""
    last = polled_at or created_at
    pause = min(max(pace_s, (now - created_at) / 10), MAX_POLL_INTERVAL_S)
    pause = min(pause * 2 ** min(failed_polls, _MAX_DOUBLINGS), MAX_BACKOFF_S)
    return not last <= now < last + pause and may_be_polled(now, polled_at=polled_at, not_before=not_before)


def pause_after_failure(pace_s: float, tick_s: float, failed_polls: int) -> float:
    """Return the seconds before a poll that failed may be repeated: `tick_s` at first, `pace_s` at most."""
    return min(pace_s, tick_s * 2.0 ** min(failed_polls, _MAX_DOUBLINGS))


HISTORY_SIZE = 20
"""How many of the newest successes the usual duration is computed from."""
_MIN_SAMPLES = 5
_MAX_DURATION_S = 3600.0
"""A longer duration only means that the video was polled late."""


def usual_duration(durations_s: Sequence[float]) -> float | None:
    """Return the seconds that a video usually takes (the median), or None if there are too few durations to tell."""
    credible = sorted(each for each in durations_s if 0 < each < _MAX_DURATION_S)
    return credible[len(credible) // 2] if len(credible) >= _MIN_SAMPLES else None
