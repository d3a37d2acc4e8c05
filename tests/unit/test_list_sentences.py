"""What is said of a list."""

from __future__ import annotations

from typing import get_args

from sora_mcp.core.results import VideoList
from sora_mcp.core.tasks import State
from sora_mcp.tools.list_sentences import render_list


def test_videos_are_counted_in_every_state_that_there_is() -> None:
    counts: dict[str, int] = {state: number for number, state in enumerate(get_args(State), 2)}
    text = render_list(VideoList(gateway="g", videos=[], counts=counts, cost=1))
    assert text.startswith(f"{sum(counts.values())} videos at g: ")
    assert [f"{count} {state}" for state, count in counts.items() if f"{count} {state}" not in text] == []
