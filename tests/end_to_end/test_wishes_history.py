"""Wishes of a user about what was made before, as conversations: what came of what, plans, counts, ten at once."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import bpe_openai
import mcp_types as types
import pytest
from calls import Arguments, ToolReply, ask
from mcp import Client

from sora_mcp.config.settings import Settings
from sora_mcp.server import build

pytestmark = pytest.mark.anyio

MakeSettings = Callable[..., Settings]
BREAKFAST = [
    {"time": 0, "description": "a kettle boils"},
    {"time": 100, "description": "a cat wakes up"},
    {"time": 200, "description": "the cat steals the toast"},
]
PLAN = '"0.0–3.3 s a kettle boils · 3.3–6.7 s a cat wakes up · 6.7–10.0 s the cat steals the toast"'


@pytest.fixture
async def one(make_settings: MakeSettings) -> AsyncIterator[Client]:
    """A client of one era, against the sandbox: what is told is the same in both."""
    async with Client(build(make_settings())) as opened:
        yield opened


async def use(client: Client, tool: str, **arguments: Any) -> ToolReply:
    told = await ask(client, tool, arguments)
    assert not told.is_error, told.text
    return told


async def make(client: Client, tool: str, **arguments: Any) -> str:
    """The id of a video that has succeeded."""
    task_id = str((await use(client, tool, **arguments)).data["task_id"])
    assert (await use(client, "get_video", task_id=task_id, wait_seconds=50)).data["state"] == "succeeded"
    return task_id


async def tokens(client: Client, tool: str, arguments: Arguments) -> int:
    """What a result costs a model to read, without the addresses in it."""
    result = await client.call_tool(tool, arguments)
    words = " ".join(block.text for block in result.content if isinstance(block, types.TextContent))
    for generation in result.structured_content.get("generations", []):
        words = words.replace(generation.get("url") or "\0", "")
    return len(bpe_openai.get_encoding("o200k_base").encode(words))


async def test_night_closer_and_closer_to_the_original_and_what_came_of_what(one: Client) -> None:
    fox = await make(one, "create_video", prompt="a fox crosses a frozen lake at dawn", width=480, height=480)
    wish = {"source_generation_id": fox, "prompt": "make it night"}
    shown = await use(one, "remix_video", **wish, amount=6, dry_run=True)
    assert "Amount 6 on a scale of 1 to 8: lower stays closer to the source, higher changes more." in shown.text
    far = await use(one, "remix_video", **wish, amount=6)
    assert (far.data["amount"], "lower stays closer" in far.text) == (6, True)
    near = await use(one, "remix_video", **wish, amount=2)
    undecided = await use(one, "remix_video", **wish)
    assert "the gateway decides" in undecided.text

    listed = (await use(one, "list_videos", wait_seconds=50)).data["videos"]
    lineage = [(video["task_id"], video["sources"], video.get("amount")) for video in listed]
    assert lineage == [
        (undecided.data["task_id"], [fox], None),
        (near.data["task_id"], [fox], 2),
        (far.data["task_id"], [fox], 6),
        (fox, [], None),
    ]
    again = await use(one, "get_video", task_id=near.data["task_id"])
    assert f"a remix of {fox} with amount 2" in again.text
    assert (again.data["amount"], again.data["sources"], again.data["prompt"]) == (2, [fox], "make it night")


async def test_the_second_beat_a_second_later_after_the_plan_was_seen(one: Client) -> None:
    planned = await use(one, "storyboard_video", actions=BREAKFAST, n_frames=300, dry_run=True)
    assert f"Plan: {PLAN}" in planned.text
    first = await use(one, "storyboard_video", actions=BREAKFAST, n_frames=300)
    assert f"Plan: {PLAN}" in first.text
    video = await use(one, "get_video", task_id=first.data["task_id"], wait_seconds=50)
    beats = video.data["actions"]
    assert [(beat["time"], beat["seconds"]) for beat in beats] == [(0, 0), (100, 3.33), (200, 6.67)]
    moved = [{"time": beat["time"] + 30 * (i == 1), "description": beat["description"]} for i, beat in enumerate(beats)]
    shape = {name: video.data[name] for name in ("width", "height", "n_frames", "n_variants")}
    seen = await use(one, "storyboard_video", actions=moved, **shape, dry_run=True)
    assert "3.3–4.3 s" not in seen.text
    assert "0.0–4.3 s a kettle boils · 4.3–6.7 s a cat wakes up" in seen.data["plan"]
    assert "duplicate_of" not in seen.data
    await use(one, "storyboard_video", actions=moved, **shape)
    listed = (await use(one, "list_videos")).data["videos"]
    assert [each["beats"] for each in listed] == [[0, 130, 200], [0, 100, 200]]


async def test_what_was_asked_for_yesterday_can_be_asked_for_again_word_for_word(make_settings: MakeSettings) -> None:
    """Each part of a request is told in the words of the arguments: with them, the same is a duplicate."""
    async with Client(build(make_settings())) as client:
        fox = await make(client, "create_video", prompt="a fox", width=480, height=480, n_variants=2)
        cat = await make(client, "create_video", prompt="a cat", width=480, height=480)
        parts: list[Arguments] = [
            {"generation_id": f"{fox}#2", "source_start_frame": 0, "source_end_frame": 74},
            {"generation_id": cat, "source_start_frame": 75},
        ]
        blend = await use(client, "blend_videos", inpaint_items=parts)
        assert f'Plan: "{fox}#2 0.0–2.5 s · {cat} from 2.5 s"' in blend.text
        picture = [{"url": "https://example.com/fox.png", "frame_index": 30}]
        create = await use(client, "create_video", prompt="from a picture", inpaint_items=picture)
        cards = [{"generation_id": cat, "frame_index": 60}]
        board = await use(client, "storyboard_video", actions=BREAKFAST, inpaint_items=cards, n_frames=300)
        remix = await use(client, "remix_video", source_generation_id=f"{fox}#2", prompt="at night", amount=2.5)
        assert f"at 2.0 s {cat}" in board.text
    async with Client(build(make_settings())) as client:
        listed = await use(client, "list_videos", wait_seconds=50)
        assert len(listed.data["videos"]) == 6
        for tool, before in (("blend_videos", blend), ("create_video", create), ("storyboard_video", board)):
            video = (await use(client, "get_video", task_id=before.data["task_id"])).data
            arguments: Arguments = {
                name: video[name] for name in ("prompt", "width", "height", "n_frames") if name in video
            }
            arguments["inpaint_items"] = video["inpaint_items"]
            if "actions" in video:
                arguments["actions"] = [{k: beat[k] for k in ("time", "description")} for beat in video["actions"]]
            assert (await use(client, tool, **arguments, dry_run=True)).data["duplicate_of"] == video["task_id"]
        video = (await use(client, "get_video", task_id=remix.data["task_id"])).data
        wish = {"source_generation_id": video["sources"][0], "prompt": video["prompt"], "amount": video["amount"]}
        assert (await use(client, "remix_video", **wish, dry_run=True)).data["duplicate_of"] == video["task_id"]
        assert (await use(client, "get_video", task_id=fox)).data["n_variants"] == 2


async def test_ten_at_once_need_one_wait(client: Client) -> None:
    words = ["fox", "hare", "owl", "elk", "lynx", "bear", "wolf", "mole", "toad", "[fail] crow"]
    for word in words:
        await use(client, "create_video", prompt=word, width=480, height=480)
    steps: list[tuple[float, float | None, str | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total, message))

    result = await client.call_tool("list_videos", {"wait_seconds": 50}, progress_callback=tell)
    listed = result.structured_content
    assert (listed["waited_for"], listed["finished"]) == (10, 10)
    assert listed["counts"] == {"succeeded": 9, "failed": 1}
    assert listed["cost"] == 10
    assert [video["prompt"] for video in listed["videos"]] == words[::-1]
    text = result.content[0]
    assert isinstance(text, types.TextContent)
    assert text.text.startswith("10 videos at sandbox: 9 succeeded, 1 failed; relative cost 10.")
    assert "All that were under way have finished." in text.text
    assert "wait_seconds" not in text.text
    assert all(later > earlier for (earlier, *_), (later, *_) in pairwise(steps))
    assert {total for _, total, _ in steps} == {50}
    assert steps[-1][2] == "10 of 10 have finished"


async def test_counts_and_cost_are_of_all_and_not_only_of_the_page(one: Client) -> None:
    for number in range(4):
        await make(one, "create_video", prompt=f"fox {number}", width=480, height=480)
    lost = await ask(one, "create_video", {"prompt": "[lost] hare"})
    assert lost.data["outcome"] == "unknown"
    page = await use(one, "list_videos", limit=2)
    assert len(page.data["videos"]) == 2
    assert page.text.startswith(
        "5 videos at sandbox: 4 succeeded, 1 unknown; relative cost 4, "
        "perhaps 1.25 more for those with an unknown outcome."
    )
    assert (page.data["cost"], page.data["uncertain_cost"]) == (4, 1.25)
    foxes = await use(one, "list_videos", query="FOX", status="succeeded", limit=2)
    assert foxes.text.startswith("5 videos at sandbox: 4 succeeded, 1 unknown;")
    assert [video["prompt"] for video in foxes.data["videos"]] == ["fox 3", "fox 2"]
    older = await use(one, "list_videos", query="fox", limit=2, cursor=foxes.data["next_cursor"])
    assert [video["prompt"] for video in older.data["videos"]] == ["fox 1", "fox 0"]
    assert "next_cursor" not in older.data


async def test_what_is_under_way_tells_its_age_and_what_is_usual(make_settings: MakeSettings) -> None:
    async with Client(build(make_settings(sandbox_seconds=20))) as client:
        made = await use(client, "create_video", prompt="a fox")
        video = await use(client, "get_video", task_id=made.data["task_id"], wait_seconds=1)
        assert 0 <= video.data["age_seconds"] < 20
        assert video.data["usual_seconds"] == 20
        assert "s ago; a video usually takes about 20 s here." in video.text
        listed = await use(client, "list_videos")
        assert 0 <= listed.data["videos"][0]["age_seconds"] < 20
        assert "A video usually takes about 20 s here." in listed.text


async def test_results_are_short(one: Client, capsys: pytest.CaptureFixture[str]) -> None:
    fox = await make(one, "create_video", prompt="Make me a short clip of a fox crossing a frozen lake at dawn")
    wish = {"source_generation_id": fox, "prompt": "The same scene at night with a full moon over the lake"}
    made = [await use(one, "remix_video", **wish, amount=amount) for amount in (2, 3, 6)]
    for second in (100, 130):
        beats = [BREAKFAST[0], BREAKFAST[1] | {"time": second}, BREAKFAST[2]]
        made.append(await use(one, "storyboard_video", actions=beats, n_frames=300))
    parts = [{"generation_id": fox, "source_start_frame": 0, "source_end_frame": 74}, {"generation_id": fox}]
    made.append(await use(one, "blend_videos", inpaint_items=parts))
    owls = [f"An owl lands on a branch in the snow, take {number}" for number in range(3)]
    made += [await use(one, "create_video", prompt=prompt) for prompt in owls]
    results: list[tuple[str, Arguments]] = [
        ("storyboard_video", {"actions": BREAKFAST, "n_frames": 300, "prompt": "breakfast", "dry_run": True}),
        ("remix_video", wish | {"amount": 5, "dry_run": True}),
        *(("get_video", {"task_id": each.data["task_id"]}) for each in made),
    ]
    sizes = {"ten listed, under way": await tokens(one, "list_videos", {})}
    sizes |= {f"{number} {tool}": await tokens(one, tool, each) for number, (tool, each) in enumerate(results)}
    sizes["ten listed"] = await tokens(one, "list_videos", {"wait_seconds": 50})
    with capsys.disabled():
        sys.stdout.write(f"\ntokens: {sizes}\n")
    listed = sizes.pop("ten listed, under way"), sizes.pop("ten listed")
    assert max(listed) <= 1250  # the ages have more digits on a slow machine
    assert max(sizes.values()) <= 500
