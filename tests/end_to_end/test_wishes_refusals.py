"""Wishes that are first asked for in another API's words, or cannot be granted: the refusal, and the second try."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bench import ACCEPTED, PNG, Connect, Era, task_reply
from calls import Arguments, ToolReply, ask, assert_accepted, assert_refused
from fault_gateway import CREATE, FaultGateway, fault_gateway, says

from sora_mcp import tools

pytestmark = pytest.mark.anyio

URL = "https://pictures.example/fox.png"
SHAPE = {"width": 480, "height": 480, "n_frames": 150}
FINISHED = task_reply("SUCCESS", data=SHAPE | {"generations": [{"id": "gen_1", "url": "https://videos.example/1.mp4"}]})


@pytest.fixture
async def gateway() -> AsyncIterator[FaultGateway]:
    """It takes everything, and knows finished videos."""
    async with fault_gateway() as opened:
        opened.on("POST", CREATE, ACCEPTED)
        opened.on("POST", "/v1/files", says({"id": "file-1", "url": "https://files.example/image.png"}))
        for name in ("fox", "cat", "owl"):
            opened.on("GET", f"{CREATE}/task_{name}", FINISHED)
        opened.on("GET", f"{CREATE}/task_new", task_reply("IN_PROGRESS"))
        yield opened


@pytest.fixture
def connect(connect: Connect, pictures: Path) -> Connect:
    return partial(connect, image_dirs=(pictures,))


# --- another API's words, then ours ---------------------------------------------------------------

FOX = {"prompt": "A fox crosses a frozen lake"}
TOAST = [{"time": 0, "description": "a kettle boils"}, {"time": 90, "description": "a cat wakes up"}]
Slip = tuple[str, Arguments, tuple[str, ...], Arguments, dict[str, Any]]
SLIPS: dict[str, Slip] = {
    "five seconds, wide": (
        "create_video",
        FOX | {"seconds": 5, "aspect_ratio": "16:9"},
        ("seconds 5 is n_frames 150.", "aspect_ratio 16:9 is width 854, height 480 or width 1280, height 720."),
        FOX | {"n_frames": 150, "width": 854, "height": 480},
        {"n_frames": 150, "width": 854, "height": 480},
    ),
    "ten seconds, for a phone": (
        "create_video",
        FOX | {"duration": "10s", "orientation": "vertical"},
        ("duration 10s is n_frames 300.", "orientation vertical is width 480, height 854 or width 720, height 1280."),
        FOX | {"n_frames": 300, "width": 480, "height": 854},
        {"n_frames": 300, "width": 480, "height": 854},
    ),
    "1080p and a minute long": (
        "create_video",
        FOX | {"resolution": "1080p", "duration_seconds": 60},
        (
            "1080p is not offered here; allowed: 480x480, 480x854, 720x720, 720x1280, 854x480, 1280x720.",
            "duration_seconds 60 is n_frames 1800, which is not offered here; allowed: 150 (5 s), 300 (10 s).",
        ),
        FOX | {"width": 1280, "height": 720, "n_frames": 300},
        {"width": 1280, "height": 720, "n_frames": 300},
    ),
    "four versions of a size": (
        "create_video",
        FOX | {"n": 4, "size": "720x1280"},
        ("n 4 is n_variants 4.", "size 720x1280 is width 720, height 1280."),
        FOX | {"n_variants": 4, "width": 720, "height": 1280},
        {"n_variants": 4, "width": 720, "height": 1280},
    ),
    "a picture to begin with": (
        "create_video",
        FOX | {"image_url": URL},
        (f'image_url is inpaint_items [{{"url": "{URL}"}}].',),
        FOX | {"inpaint_items": [{"url": URL}]},
        {"inpaint_items": [{"url": URL}]},
    ),
    "a picture without its field": (
        "create_video",
        FOX | {"inpaint_items": URL},
        (f'such as [{{"url": "{URL}"}}]',),
        FOX | {"inpaint_items": [{"url": URL}]},
        {"inpaint_items": [{"url": URL}]},
    ),
    "videos without their field": (
        "blend_videos",
        {"inpaint_items": ["task_fox", "task_cat"]},
        ('inpaint_items[0]: "task_fox" is not accepted; allowed: an object', 'such as {"generation_id": "task_fox"}'),
        {"inpaint_items": [{"generation_id": "task_fox"}, {"generation_id": "task_cat"}]},
        {"inpaint_items": [{"generation_id": "gen_1"}, {"generation_id": "gen_1"}]},
    ),
    "a remix by its task, with a strength": (
        "remix_video",
        {"prompt": "at night", "task_id": "task_fox", "strength": 0.5},
        ("task_id task_fox is source_generation_id task_fox.", "strength 0.5 of 1 is about amount 4.5."),
        {"prompt": "at night", "source_generation_id": "task_fox", "amount": 4.5},
        {"sdedit": {"amount": 4.5, "source_generation_id": "gen_1"}},
    ),
    "a blend of two videos": (
        "blend_videos",
        {"videos": ["task_fox", "task_cat"]},
        ('videos is inpaint_items [{"generation_id": "task_fox"}, {"generation_id": "task_cat"}].',),
        {"inpaint_items": [{"generation_id": "task_fox"}, {"generation_id": "task_cat"}]},
        {"inpaint_items": [{"generation_id": "gen_1"}, {"generation_id": "gen_1"}]},
    ),
    "scenes by their seconds": (
        "storyboard_video",
        {"scenes": [{"start": 0, "text": "a kettle boils"}]},
        ("use actions.",),
        {"actions": TOAST},
        {"actions": TOAST},
    ),
    "beats by their seconds": (
        "storyboard_video",
        {"actions": [{"start": 0, "text": "a kettle boils"}, {"start": 3, "text": "a cat wakes up"}]},
        (
            "actions[0].start: ",
            "use time, 30 per second: start 0 is time 0 (and in 1 more).",
            "use description",
        ),
        {"actions": TOAST},
        {"actions": TOAST},
    ),
    "an image outside of the allowed folder": (
        "create_video",
        FOX | {"inpaint_items": [{"url": "../private.png"}]},
        ("inpaint_items[0].url", "files inside", "SORA_IMAGE_DIRS"),
        FOX | {"inpaint_items": [{"url": "fox.png"}]},
        {"inpaint_items": [{"url": "https://files.example/image.png"}]},
    ),
    "a generation of elsewhere": (
        "remix_video",
        {"prompt": "at night", "source_generation_id": "gen_of_elsewhere"},
        ("source_generation_id: gen_of_elsewhere was not made here", "name its task (task_…) instead, or give width"),
        {"prompt": "at night", "source_generation_id": "task_fox"},
        SHAPE,
    ),
    "three sources": (
        "blend_videos",
        {"inpaint_items": [{"generation_id": f"task_{name}"} for name in ("fox", "cat", "owl")]} | SHAPE,
        ("3 given; allowed: exactly two.", "2 paid calls, each for a relative cost of 1."),
        {"inpaint_items": [{"generation_id": f"task_{name}"} for name in ("fox", "cat")]},
        SHAPE,
    ),
}


@pytest.mark.parametrize(("tool", "slip", "words", "second", "sent"), SLIPS.values(), ids=SLIPS)
async def test_a_refusal_teaches_what_the_second_try_needs(  # noqa: PLR0917 - fixtures
    tool: str,
    slip: Arguments,
    words: tuple[str, ...],
    second: Arguments,
    sent: dict[str, Any],
    gateway: FaultGateway,
    connect: Connect,
    pictures: Path,
) -> None:
    (pictures / "fox.png").write_bytes(PNG)
    async with connect() as client:
        await assert_refused(client, tool, slip, *words)
        assert gateway.requests("POST") == []
        await assert_accepted(client, tool, second)
    [create] = gateway.creates()
    assert {name: create.json()[name] for name in sent} == sent


async def test_what_is_allowed_is_said_once(connect: Connect) -> None:
    async with connect() as client:
        told = await ask(client, "create_video", FOX | {"zebra": 1, "okapi": 2, "promt": 3, "gnu": 4})
    assert told.text.count("n_variants, style, model") == 1
    assert all(f"{name}: unknown argument" in told.text for name in ("zebra", "okapi", "gnu"))
    assert "promt: unknown argument (did you mean prompt?)" in told.text


async def test_the_same_slip_in_many_beats_is_said_once(connect: Connect) -> None:
    beats = [{"start_time": second, "text": "it opens"} for second in range(20)]
    async with connect() as client:
        told = await ask(client, "storyboard_video", {"actions": beats})
    assert told.text.count("use time") == 1
    assert "(and in 19 more)" in told.text
    assert "is missing" not in told.text
    assert len(told.text) < 600


async def test_the_documented_example_means_no_image(era: Era, gateway: FaultGateway, connect: Connect) -> None:
    async with connect(era) as client:
        await assert_accepted(client, "create_video", FOX | {"inpaint_items": [{"url": ""}]})
        dry = await ask(client, "create_video", {"prompt": "x", "inpaint_items": '[{"url": null}]', "dry_run": True})
        await assert_refused(client, "create_video", {"inpaint_items": [{"url": ""}]}, "prompt: is blank")
        await assert_refused(client, "storyboard_video", {"inpaint_items": [{"url": ""}]}, "actions: none given")
        mixed = FOX | {"inpaint_items": [{"url": ""}, {"url": URL}]}
        await assert_refused(client, "create_video", mixed, "inpaint_items[0]", "exactly one of")
        await assert_refused(
            client, "create_video", FOX | {"inpaint_items": [{}]}, "inpaint_items[0]", "exactly one of"
        )
    assert dry.data["body"]["inpaint_items"] == []
    [create] = gateway.creates()
    assert create.json()["inpaint_items"] == []


# --- what this API cannot do ----------------------------------------------------------------------

CANNOT = {
    "cancel_video": "cannot be cancelled",
    "cancelTask": "cannot be cancelled",
    "stop-generation": "cannot be cancelled",
    "delete_video": "cannot be deleted",
    "videos.remove": "cannot be deleted",
    "extend_video": "cannot be extended",
    "trim_video": "cannot be cut or joined",
    "upscale_video": "cannot be enlarged",
    "add_audio": "Sound and subtitles cannot be added",
    "undo_video": "cannot be undone",
    "loop_video": "cannot be made to loop",
}
NO_TOOL = {
    "retry_video": "First check with get_video",
    "regenerateVideo": "First check with get_video",
    "rerun": "First check with get_video",
    "resume_video": "get_video waits for it",
}


@pytest.mark.parametrize(("name", "words"), CANNOT.items(), ids=CANNOT)
async def test_a_tool_for_what_cannot_be_done_is_answered_with_that(
    name: str, words: str, gateway: FaultGateway, connect: Connect
) -> None:
    async with connect() as client:
        told = await ask(client, name, {"task_id": "task_new"})
    assert told.is_error
    assert "this API cannot do that" in told.text
    assert words in told.data["error"]["next_step"]
    assert "charged" not in told.text  # it would be read as said of the video
    assert gateway.connections == 0


@pytest.mark.parametrize(("name", "words"), NO_TOOL.items(), ids=NO_TOOL)
async def test_a_tool_that_nobody_needs_is_answered_with_what_to_do(name: str, words: str, connect: Connect) -> None:
    async with connect() as client:
        told = await ask(client, name, {"task_id": "task_new"})
    assert told.is_error
    assert "did you mean" not in told.text
    assert words in told.data["error"]["next_step"]


@pytest.mark.parametrize("name", ["rate_video", "zend_video", "video_moods", "remind_videos", "video", "grade_video"])
async def test_a_paid_tool_is_not_named_because_a_name_looks_a_little_like_it(name: str, connect: Connect) -> None:
    async with connect() as client:
        told = await ask(client, name, {})
    assert f"{name}: unknown tool; allowed: " in told.text


MEANT = {
    "text2video": "create_video",
    "txt2vid": "create_video",
    "image2video": "create_video",
    "generate": "create_video",
    "creat_video": "create_video",
    "remx_video": "remix_video",
    "get_vidoes": "get_video",
    "lst_videos": "list_videos",
    "generate_video": "create_video",
    "text_to_video": "create_video",
    "edit_video": "remix_video",
    "check_status": "get_video",
    "video_history": "list_videos",
    "preview": "view_video",
    "save_video": "download_video",
    "list_video": "list_videos",
    "blendVideos": "blend_videos",
}


@pytest.mark.parametrize(("name", "instead"), MEANT.items(), ids=MEANT)
async def test_a_tool_of_another_server_is_answered_with_ours(name: str, instead: str, connect: Connect) -> None:
    async with connect() as client:
        told = await ask(client, name, FOX)
    assert f"{name}: unknown tool (did you mean {instead}?)" in told.text
    assert ("outcome" in told.data) == tools.TABLE[instead].paid


async def test_a_tool_that_means_nothing_is_answered_with_all_of_ours(connect: Connect) -> None:
    async with connect() as client:
        told = await ask(client, "zebra", {})
    assert all(name in told.text for name in tools.TABLE)


def test_the_instructions_say_what_cannot_be_done() -> None:
    assert re.search(r"cannot be cancelled, deleted or extended", tools.INSTRUCTIONS)


async def test_what_is_said_of_values_of_any_kind_is_short_and_sends_nothing(
    gateway: FaultGateway, connect: Connect
) -> None:
    values: list[Any] = [None, True, -1, 1e300, "", "ten", "x" * 5000, "16:0", "0x0", [], {}, [[1]], {"a": "b"}]
    names = ("seconds", "size", "aspect_ratio", "n", "image", "task_id", "strength", "scenes", "fps")
    async with connect() as client:
        for value in values:
            told: ToolReply = await assert_refused(client, "create_video", FOX | dict.fromkeys(names, value))
            assert len(told.text) < 2500
    assert gateway.connections == 0
