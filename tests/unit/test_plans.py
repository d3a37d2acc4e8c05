"""What a request asked for, read off its body, and its plan in words."""

from __future__ import annotations

from typing import Any

import pytest

from sora_mcp.core import plans
from sora_mcp.core.capabilities import UPSTREAM_DEFAULT, Adjustment
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.schedule import usual_duration
from sora_mcp.dialects.protocol import Plan
from sora_mcp.media import board as boards
from sora_mcp.studio.boards import open_board
from sora_mcp.studio.sources import Resolved


def board(*beats: tuple[int, str], **fields: Any) -> dict[str, Any]:
    actions = [{"time": time, "description": description} for time, description in beats]
    return {"operation": "storyboard", "n_frames": 300, "actions": actions} | fields


def blend(*ranges: tuple[int | None, int | None]) -> dict[str, Any]:
    items = [
        {"generation_id": f"gen_{i}", "source_start_frame": a, "source_end_frame": b} for i, (a, b) in enumerate(ranges)
    ]
    return {"operation": "blend", "n_frames": 150, "inpaint_items": items}


IMAGE = {"url": "https://example.com/fox.png"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (board((0, "a"), (100, "b"), (200, "c")), "0.0–3.3 s a · 3.3–6.7 s b · 6.7–10.0 s c"),
        (board((75, "a\n  b")), "2.5–10.0 s a b"),
        (board((0, "a"), n_frames=None), "from 0.0 s a"),
        (board((0, "x" * 100)), f"0.0–10.0 s {'x' * 59}…"),
        (board((0, "a"), inpaint_items=[IMAGE | {"frame_index": 45}]), "0.0–10.0 s a · at 1.5 s an image"),
        (board(inpaint_items=[IMAGE]), "somewhere an image"),
        (blend((0, 74), (75, None)), "task_0 0.0–2.5 s · task_1 from 2.5 s"),
        (blend((None, 74), (None, None)), "task_0 0.0–2.5 s · task_1"),
        (blend((None, None), (None, None)), None),
        (board(), None),
        ({"operation": "remix", "actions": [{"time": 0, "description": "x"}]}, None),
        ({}, None),
    ],
    ids=str,
)
def test_a_plan_says_what_comes_when(body: dict[str, Any], words: str | None) -> None:
    assert plans.plan(body, ["task_0", "task_1"]) == words


def test_a_plan_of_many_beats_is_short() -> None:
    plan = plans.plan(board(*((frame, "x" * 500) for frame in range(300))))
    assert plan is not None
    assert plan.endswith(" · 288 more")
    assert len(plan) < 1000


def test_beats_that_are_told_in_full_are_bounded() -> None:
    whole = plans.shortened_beats(board((0, "x" * 2000), (30, "y" * 2000)))
    assert [len(beat.description) for beat in whole] == [2000, 2000]
    many = plans.shortened_beats(board(*((frame, "x" * 10_000) for frame in range(10))))
    assert [len(beat.description) for beat in many] == [400] * 10


@pytest.mark.parametrize(
    ("sources", "shown"),
    [
        (["task_a", "task_b#2"], ["task_a", "task_b#2"]),
        ([], ["gen_1", "media_2"]),  # made elsewhere: only the body tells
        (["task_a"], ["task_a", "media_2"]),
    ],
)
def test_sources_have_the_ids_that_are_shown(sources: list[str], shown: list[str]) -> None:
    items = [{"generation_id": "gen_1"}, IMAGE, {"upload_media_id": "media_2", "frame_index": 3}]
    found = plans.items({"inpaint_items": items}, sources)
    assert [item.source for item in found] == [shown[0], None, shown[1]]
    assert [item.url for item in found] == [None, IMAGE["url"], None]
    assert found[2].frame_index == 3


def test_the_source_of_a_remix_is_no_item() -> None:
    body = {"sdedit": {"source_generation_id": "gen_1", "amount": 3}, "inpaint_items": [{"generation_id": "gen_2"}]}
    assert [item.source for item in plans.items(body, ["task_1", "task_2"])] == ["task_2"]
    assert plans.amount(body) == 3


@pytest.mark.parametrize("amount", [True, "3", None, float("nan"), float("inf"), -1, 10**400], ids=str)
def test_an_amount_that_is_none_is_left_out(amount: object) -> None:
    assert plans.amount({"sdedit": {"amount": amount}}) is None


@pytest.mark.parametrize(
    ("durations", "seconds"),
    [
        ([], None),
        ([50, 60, 70, 80], None),
        ([50, 60, 70, 80, 90], 70),
        ([50, 60, 70, 80, 90, 5000, 9000], 70),
        ([60, 70, 5000, 6000, 7000], None),  # looked at late
        ([-5, -1, 0, 60, 70], None),  # the clock went back
    ],
    ids=str,
)
def test_what_is_usual_takes_some_history(durations: list[float], seconds: float | None) -> None:
    assert usual_duration(durations) == seconds


# --- where a plan ends ----------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("adjusted", "shape"),
    [
        ((), (480, 480, 150)),
        (
            (
                Adjustment("n_frames", "not given", "4 s", n_frames=120),
                Adjustment("size", "x", "640x480", size=(640, 480)),
            ),
            (640, 480, 120),
        ),
        ((Adjustment("n_frames", "not given", UPSTREAM_DEFAULT),), (480, 480, None)),
    ],
)
async def test_a_board_has_the_shape_of_what_is_sent(
    adjusted: tuple[Adjustment, ...], shape: tuple[int, int, int | None]
) -> None:
    actions = [{"time": 0, "description": "a door"}, {"time": 60, "description": "it opens"}]
    request = VideoRequest(operation="storyboard", width=480, height=480, actions=actions)  # type: ignore[arg-type]
    left_open = frozenset({"n_frames"}) if adjusted else frozenset()

    async def find(video_id: str) -> None:
        raise AssertionError(video_id)

    async with open_board(Resolved(request, plan=Plan(adjusted, left_open)), find, None) as board:
        assert (board.width, board.height, board.n_frames) == shape
        assert boards.draw(board)
