"""How long waits are, after hosts and users have cancelled some."""

from __future__ import annotations

from asyncio import CancelledError
from contextlib import ExitStack, suppress

import pytest

from sora_mcp.tools import HostTimeout

pytestmark = pytest.mark.anyio


class Host:
    """Somebody who waits for videos that do not finish. `time_out_s`: they give up after so many seconds."""

    def __init__(self, time_out_s: float = 60) -> None:
        self.time_out_s = time_out_s
        self.now = 0.0
        self.host_timeout = HostTimeout(lambda: self.now)

    def wait(self, asked_s: float = 50, *, cancelled_after_s: float | None = None) -> bool:
        """Whether the wait could run its whole length."""
        wait_s = min(asked_s, self.host_timeout.max_wait_s)
        lasts_s = min(self.time_out_s, wait_s if cancelled_after_s is None else cancelled_after_s)
        try:
            with self.host_timeout.waiting(wait_s):
                self._pass(lasts_s, is_cancelled=lasts_s < wait_s)
        except CancelledError:
            return False
        return True

    def give_up_together(self, waits: int) -> None:
        """So many waits that began at once are cancelled by the time-out."""
        with suppress(CancelledError), ExitStack() as together:
            for _ in range(waits):
                together.enter_context(self.host_timeout.waiting(self.host_timeout.max_wait_s))
            self._pass(self.time_out_s, is_cancelled=True)

    def _pass(self, seconds: float, *, is_cancelled: bool) -> None:
        self.now += seconds
        if is_cancelled:
            raise CancelledError


@pytest.mark.parametrize("seconds", [0, 0.5, 1, 2.6, 3.9])
async def test_a_user_who_thinks_better_of_it_says_nothing_about_time(seconds: float) -> None:
    host = Host()
    for _ in range(5):
        assert not host.wait(cancelled_after_s=seconds)
    assert host.host_timeout.max_wait_s == 50


@pytest.mark.parametrize(("seconds", "fits"), [(4, 3), (5, 4), (5.05, 4), (10, 8), (30, 24)])
async def test_a_host_that_gives_up_is_answered_before_that(seconds: float, fits: float) -> None:
    host = Host(seconds)
    assert not host.wait()
    assert host.host_timeout.max_wait_s == fits
    assert host.wait()


async def test_waits_become_as_long_as_they_were_where_they_run_their_whole_length() -> None:
    host = Host()
    host.wait(cancelled_after_s=5)
    lengths = []
    while host.host_timeout.max_wait_s < 50:
        assert host.wait()
        lengths.append(host.host_timeout.max_wait_s)
    assert lengths == [8, 16, 32, 50]
    assert host.wait()
    assert host.host_timeout.max_wait_s == 50


async def test_what_is_shorter_or_ends_early_shows_nothing() -> None:
    host = Host()
    host.wait(cancelled_after_s=5)
    for _ in range(5):
        assert host.wait(1)
        with host.host_timeout.waiting(4):  # the video finishes at once
            pass
    assert host.host_timeout.max_wait_s == 4


async def test_a_host_with_a_time_out_seldom_meets_it_again() -> None:
    host = Host(5)
    waits = [host.wait() for _ in range(100)]
    assert waits.count(False) <= 8


async def test_waits_that_time_out_together_count_once() -> None:
    host = Host(5)
    host.give_up_together(8)
    assert host.wait()
    assert host.host_timeout.max_wait_s == 8


async def test_no_wait_becomes_shorter_than_three_seconds() -> None:
    host = Host()
    for seconds in (30, 10, 4, *[2.9] * 20):
        host.wait(cancelled_after_s=seconds)
    assert host.host_timeout.max_wait_s == 3
