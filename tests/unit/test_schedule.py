"""When a task is polled, decided without a clock."""

from __future__ import annotations

import pytest

from sora_mcp.core.schedule import MAX_BACKOFF_S, MAX_POLL_INTERVAL_S, is_due, may_be_polled, pause_after_failure

NOW = 1_000_000.0


def pause(age_s: float, failed_polls: int = 0, pace_s: float = 10) -> float:
    """Whole seconds after the last poll at which the next one is due, of a task that was then `age_s` old."""
    for seconds in range(1, 700):
        now, made_at = NOW + seconds, NOW - age_s
        if is_due(now, pace_s, created_at=made_at, polled_at=NOW, not_before=None, failed_polls=failed_polls):
            return seconds
    raise AssertionError("it is never due")


@pytest.mark.parametrize(
    ("age_s", "seconds"), [(0, 10), (90, 10), (180, 20), (3600, 60), (80_000, MAX_POLL_INTERVAL_S)]
)
def test_a_task_is_polled_ever_more_rarely_as_it_grows_old(age_s: float, seconds: float) -> None:
    assert pause(age_s) == seconds


@pytest.mark.parametrize(("failed_polls", "seconds"), [(0, 10), (1, 20), (2, 40), (6, 600), (99, MAX_BACKOFF_S)])
def test_each_poll_that_fails_doubles_the_pause(failed_polls: int, seconds: float) -> None:
    assert pause(0, failed_polls) == pytest.approx(seconds, rel=0.2)


@pytest.mark.parametrize(
    ("polled_at", "not_before", "may"),
    [
        (None, None, True),
        (NOW - 1, NOW + 1, False),
        (NOW - 1, NOW, True),
        (None, NOW + 1, False),
        (NOW + 1, NOW + 9, True),  # the clock went back
    ],
)
def test_nobody_asks_before_the_time_that_was_agreed(
    polled_at: float | None, not_before: float | None, may: bool
) -> None:
    assert may_be_polled(NOW, polled_at=polled_at, not_before=not_before) == may


@pytest.mark.parametrize(("failed_polls", "seconds"), [(0, 1), (1, 2), (3, 8), (4, 10), (5000, 10)])
def test_after_a_failure_the_pause_grows_to_the_pace(failed_polls: int, seconds: float) -> None:
    assert pause_after_failure(10, 1, failed_polls) == seconds
