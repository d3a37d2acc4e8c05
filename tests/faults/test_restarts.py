"""The demo's conversation with a server that is killed between any two steps: it still ends with every video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from ledgers import Store
from wire import host

pytestmark = pytest.mark.anyio

SIZE = {"width": 480, "height": 480}
BEATS = [{"time": 0, "description": "Snow falls"}, {"time": 60, "description": "A fox crosses the bridge"}]

Known = dict[str, str]
"""The task ids that the agent has learnt."""
Step = tuple[str, Callable[[Known], dict[str, Any]], str]
"""A tool, its arguments, and the name under which the agent keeps the task id."""

OF_SEVERAL_SERVERS = {"sandbox", ".sora-mcp-folder"}
"""What servers keep beside the videos where they share a ledger."""


def video(name: str, tool: str, arguments: Callable[[Known], dict[str, Any]]) -> Iterator[Step]:
    """Make a video, wait for it, look at it, keep it."""
    yield tool, arguments, name
    yield "get_video", lambda known: {"task_id": known[name], "wait_seconds": 50}, ""
    yield "view_video", lambda known: {"task_id": known[name], "frames": 4}, ""
    yield "download_video", lambda known: {"task_id": known[name]}, ""


STEPS: list[Step] = [
    *video("day", "create_video", lambda _: {"prompt": "A lighthouse at sunset"} | SIZE),
    *video(
        "night", "remix_video", lambda known: {"source_generation_id": known["day"], "prompt": "At night", "amount": 6}
    ),
    *video("story", "storyboard_video", lambda _: {"actions": BEATS, "prompt": "Winter"} | SIZE),
    *video(
        "both",
        "blend_videos",
        lambda known: {"inpaint_items": [{"generation_id": known["day"]}, {"generation_id": known["story"]}]},
    ),
    ("list_videos", lambda _: {}, ""),
]


async def test_a_server_that_is_killed_between_any_two_steps_still_ends_with_every_video(
    environment: dict[str, str], store: Store, tmp_path: Path
) -> None:
    environ = environment | {f"SORA_{name}": value for name, value in store.environ.items()}
    known: Known = {}
    told: dict[str, Any] = {}
    for tool, arguments, name in STEPS:
        async with host(environ) as server:  # killed on leaving
            with anyio.fail_after(60):
                await server.start()
                told = await server.use(tool, **arguments(known))
        assert "error" not in told, told
        if name:
            known[name] = told["task_id"]
    assert [each["state"] for each in told["videos"]] == ["succeeded"] * 4
    assert {each["task_id"] for each in told["videos"]} == set(known.values())
    kept = {each.name async for each in anyio.Path(tmp_path / "videos").iterdir()} - OF_SEVERAL_SERVERS
    assert len(kept) == 4
    assert all(name.endswith(".mp4") for name in kept)
