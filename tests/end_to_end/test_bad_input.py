"""Bad input is answered before anything is sent; what is merely sloppy becomes the one right request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bench import ACCEPTED, PNG, Connect, Era, task_reply
from calls import NOTHING_SENT, Arguments, ask, assert_accepted, assert_refused, create, item
from fault_gateway import CREATE, Answer, FaultGateway, fault_gateway, says

pytestmark = pytest.mark.anyio


def task(task_id: str, status: str, **raw: Any) -> Answer:
    """A query's answer in the documented envelope; `raw` is the task inside it."""
    progress = "40%" if status == "IN_PROGRESS" else "100%"
    return task_reply(status, task_id=task_id, progress=progress, fail_reason="", data=raw or None)


def generation(number: int) -> dict[str, str]:
    return {"id": f"gen_{number}", "url": f"https://videos.example/{number}.mp4"}


SHAPE = {"width": 480, "height": 480, "n_frames": 300}
"""Of the finished task: what is made from it takes size and length from it."""
TASKS = {
    "task_new": task("task_new", "NOT_START"),
    "task_finished": task(
        "task_finished", "SUCCESS", prompt="a door", **SHAPE, generations=[generation(1), generation(2)]
    ),
    "task_anonymous": task("task_anonymous", "SUCCESS", video_url="https://videos.example/3.mp4"),
    "task_running": task("task_running", "IN_PROGRESS"),
    "task_failed": task("task_failed", "FAILURE"),
    "task_absent": says({"code": "task_not_exist", "message": "task_not_exist", "data": None}, 400),
}

# --- the bench ------------------------------------------------------------------------------------


@pytest.fixture
async def gateway() -> AsyncIterator[FaultGateway]:
    """A gateway that accepts everything, and knows a few tasks and no other."""
    async with fault_gateway() as opened:
        opened.on("POST", CREATE, ACCEPTED)
        for task_id, answer in TASKS.items():
            opened.on("GET", f"{CREATE}/{task_id}", answer)
        yield opened


@pytest.fixture
def connect(connect: Connect, pictures: Path) -> Connect:
    return partial(connect, image_dirs=(pictures,))


# --- refused --------------------------------------------------------------------------------------


def storyboard(*times: Any, **arguments: Any) -> tuple[str, Arguments]:
    actions = [{"time": time, "description": "it opens"} for time in times]
    return "storyboard_video", {"actions": actions} | arguments


def remix(**arguments: Any) -> tuple[str, Arguments]:
    return "remix_video", {"prompt": "now at night"} | arguments


def blend(*items: Any) -> tuple[str, Arguments]:
    return "blend_videos", {"prompt": "one into the other", "inpaint_items": list(items)}


URL = "https://pictures.example/1.png"
Case = tuple[tuple[str, Arguments], tuple[str, ...]]
REFUSED: dict[str, Case] = {
    "no prompt": (("create_video", {}), ("prompt", "is blank")),
    "an empty prompt": (create(prompt=""), ("prompt", "is blank")),
    "a blank prompt": (create(prompt=" \n\t"), ("prompt", "is blank")),
    "a prompt that is a number": (create(prompt=7), ("prompt", "allowed: text")),
    "a prompt that is no text": (create(prompt=True), ("prompt: true is not accepted; allowed: text",)),
    "a description that is no text": (
        ("storyboard_video", {"actions": [{"time": 0, "description": False}]}),
        ("actions[0].description: false is not accepted; allowed: text",),
    ),
    "a number of frames that is no number": (create(n_frames=True), ('n_frames: "true" is not accepted',)),
    "480x1280": (create(width=480, height=1280), ("480x1280", "480x854", "SORA_EXTRA_SIZES")),
    "a width of none": (create(width=0), ("width", "at least 1")),
    "a width of 10^30": (
        create(width=10**30),
        ("width: is far too large; allowed: a whole number of at least 1 (Pixels",),
    ),
    "10^30 frames": (create(n_frames=10**30), ("n_frames: is far too large; allowed: ", "150 (5 s) or 300 (10 s")),
    "a beat at frame 10^30": (storyboard(10**30), ("actions[0].time: is far too large; allowed: ", "below n_frames")),
    "151 frames": (create(n_frames=151), ("n_frames: 151", "150 (5 s), 300 (10 s)", "SORA_EXTRA_FRAMES")),
    "half a frame": (create(n_frames=150.5), ("n_frames", "150.5")),
    "no variants": (create(n_variants=0), ("n_variants", "at least 1")),
    "five variants": (create(n_variants=5), ("n_variants", "1 to 4", "SORA_MAX_VARIANTS")),
    "another style": (create(style="vivid"), ("style", '"vivid"', "natural")),
    "another model": (create(model="sora-2"), ("model", "turbo")),
    "an unknown argument": (("create_video", {"promt": "fly man"}), ("promt", "did you mean prompt?")),
    "an unknown field of an item": (item(ulr=URL), ("inpaint_items[0].ulr", "did you mean url?")),
    "several mistakes at once": (create(n_frames=151, width=9, n_variants=9), ("n_frames", "9x480", "n_variants")),
    "an item of two sources": (item(url=URL, upload_media_id="media_1"), ("inpaint_items[0]", "exactly one of")),
    "an item of no source": (item(frame_index=0), ("inpaint_items[0]", "exactly one of url, upload_media_id.")),
    "a video as an image": (
        item(url="task_150#2"),
        ("inpaint_items[0].url: is the id of a video; allowed: the address of an image",),
    ),
    "a video as an image of a blend": (
        blend({"url": "task_150"}, {"generation_id": "task_150"}),
        ("inpaint_items[0].url: is the id of a video; allowed: the id as generation_id",),
    ),
    "an item past the end": (item(url=URL, frame_index=150), ("inpaint_items[0].frame_index", "0 to 149")),
    "a file: address": (item(url="file:///etc/passwd"), ("inpaint_items[0].url", "http(s)")),
    "a data: address": (item(url="data:image/png;base64,iVBORw0KGgo="), ("inpaint_items[0].url", "http(s)")),
    "items in prose": (create(inpaint_items="the red door"), ("inpaint_items", "a list")),
    "no actions": (storyboard(), ("actions", "at least one action")),
    "an action past the end": (storyboard(0, 150), ("actions[1].time", "0 to 149")),
    "an action at 9 s of 5": (storyboard("9s"), ("actions[0].time", "270", "0 to 149")),
    "an action before the start": (storyboard(-1), ("actions[0].time", "at least 0")),
    "an action at -1 s": (storyboard("-1s"), ("actions[0].time", "30 per second")),
    "actions at the seconds of ten": (
        storyboard(0, 3, 6, n_frames=300),
        ("actions[].time: 0, 3, 6", "0, 90, 180", '"0s", "3s", "6s"', '"0s", "0.1s", "0.2s"'),
    ),
    "the same as texts, in a dry run": (storyboard("0", "3", "6", n_frames=300, dry_run=True), ("0, 90, 180",)),
    "the same as JSON text": (
        ("storyboard_video", {"actions": json.dumps([{"time": t, "description": "x"} for t in (0, 3.0)])}),
        ("0, 90",),
    ),
    "actions at the seconds of five": (storyboard(1, 4), ("30, 120", '"1s", "4s"')),
    "a plain number beside one with its unit": (storyboard("0s", 3), ("0, 90", '"0s", "3s"')),
    "a plain number before one with its unit": (storyboard(0, 3, "4s"), ("0, 90, 120", '"0s", "3s", "4s"')),
    "the last at the end of five seconds": (
        storyboard(0, 5),
        ("0, 150", "5 s is past the end: the video is 5 s long", '"0s", "0.167s"'),
    ),
    "the last at the end of ten seconds": (storyboard(0, 5, 10, n_frames=300), ("0, 150, 300", '"0s", "5s", "10s"')),
    "no beat at 0": (storyboard(2, 6, 10, n_frames=300), ("60, 180, 300",)),
    "the end of five seconds as a text": (storyboard("0", "2", "5"), ("0, 60, 150",)),
    "seconds of a longer video": (storyboard(0, 4, 8, 12, n_frames=300), ("0, 120, 240, 360", "12 s is past the end")),
    "ten seconds' beats in five": (storyboard(0, 3, 9), ("0, 90, 270", "9 s is past the end")),
    "all beats in half a second": (storyboard(0, 15), ("0, 450", '"0s", "0.5s"')),
    "an action at 2.5": (storyboard(0, 2.5), ("actions[1].time", "75", '"2.5s"')),
    "an action at 2.5 as a text": (storyboard(0, " 2.5 "), ("actions[1].time", "75", '"2.5s"')),
    "a prompt of 10001 characters": (
        create(prompt="é" * 10001),
        ("prompt: is 10001 characters long", "at most 10000", "SORA_MAX_PROMPT_LENGTH"),
    ),
    "a description of 10001 characters": (
        ("storyboard_video", {"actions": [{"time": 0, "description": "x" * 10001}]}),
        ("actions[0].description: is 10001 characters long", "at most 10000"),
    ),
    "a prompt that is too long in a dry run": (create(prompt="x" * 10001, dry_run=True), ("prompt", "10000")),
    "descriptions of more than 100000 characters together": (
        ("storyboard_video", {"actions": [{"time": t, "description": "x" * 9999} for t in range(100, 111)]}),
        ("prompt, actions[].description", "109989", "at most 100000"),
    ),
    "an address of 10001 characters": (
        item(url="https://pictures.example/" + "x" * 10000),
        ("inpaint_items[0].url", "at most 10000"),
    ),
    "too many actions": (storyboard(*range(1001)), ("actions: has 1001 items", "at most 1000")),
    "a source range past its end": (
        blend({"generation_id": "task_finished", "source_end_frame": 300}, {"generation_id": "gen_2"}),
        ("inpaint_items[0].source_end_frame", "300 is past the end", "0 to 299"),
    ),
    "a source range that begins past the end of a later variant": (
        blend({"url": URL}, {"generation_id": "task_finished#2", "source_start_frame": 999}),
        ("inpaint_items[1].source_start_frame", "999", "0 to 299"),
    ),
    "a card that begins past the end of its source": (
        (
            "storyboard_video",
            {"inpaint_items": [{"generation_id": "task_finished", "source_start_frame": 300, "source_end_frame": 301}]},
        ),
        ("inpaint_items[0].source_start_frame", "inpaint_items[0].source_end_frame", "0 to 299"),
    ),
    "repeated actions": (storyboard(30, 30), ("actions[1].time", "does not come after 30")),
    "unordered actions": (storyboard(60, 30), ("actions[1].time", "does not come after 60")),
    "an action without a text": (
        ("storyboard_video", {"actions": [{"time": 0, "description": " "}]}),
        ("actions[0].description", "is blank"),
    ),
    "an action without a time": (
        ("storyboard_video", {"actions": [{"description": "it opens"}]}),
        ("actions[0].time", "is missing"),
    ),
    "a remix of nothing": (remix(), ("source: none given", "exactly one of")),
    "a remix of two": (
        remix(source_generation_id="gen_1", source_upload_media_id="media_1"),
        ("source: two given", "exactly one of"),
    ),
    "a remix without a prompt": (("remix_video", {"source_generation_id": "gen_1"}), ("prompt", "is missing")),
    "a remix with a blank prompt": (remix(prompt=" ", source_generation_id="gen_1"), ("prompt", "is blank")),
    "a generation of elsewhere": (
        remix(source_generation_id="gen_9"),
        (
            "source_generation_id: gen_9 was not made here",
            "name its task (task_…) instead, or give width, height, n_frames.",
        ),
    ),
    "a generation of elsewhere, of which only the length is missing": (
        remix(source_generation_id="gen_9", width=480, height=480),
        ("source_generation_id: gen_9", "task_…", "give n_frames."),
    ),
    "two generations of elsewhere": (
        blend({"generation_id": "gen_8"}, {"generation_id": "gen_9"}),
        ("inpaint_items[0].generation_id: gen_8", "task_…", "give width, height, n_frames."),
    ),
    "an upload without a size": (
        remix(source_upload_media_id="media_9"),
        ("source_upload_media_id: media_9", "give width, height, n_frames."),
    ),
    "a variant that is none": (remix(source_generation_id="task_finished#0"), ("source_generation_id", "task_…#2")),
    "a variant of 5000 digits": (remix(source_generation_id="task_finished#" + "9" * 5000), ("task_…#2",)),
    "a variant of a generation": (remix(source_generation_id="gen_1#2", **SHAPE), ("is not an id",)),
    "an upload that is no id": (remix(source_upload_media_id="../../x", **SHAPE), ("source_upload_media_id",)),
    "a word as a source": (remix(source_generation_id="hello", **SHAPE), ("is not an id",)),
    "an invisible prompt": (create(prompt="\u200b\u202e"), ("prompt", "is blank")),
    "true as a number": (create(n_variants=True), ("n_variants", "whole number")),
    "an amount of 9": (remix(source_generation_id="gen_1", amount=9), ("amount", "from 1 to 8")),
    "an amount of 0.5": (remix(source_generation_id="gen_1", amount=0.5), ("amount", "from 1 to 8")),
    "a source that is no id": (remix(source_generation_id="../models"), ("source_generation_id", "is not an id")),
    "an unfinished source": (
        remix(source_generation_id="task_running"),
        ("source_generation_id", "task_running is not finished", "40 %", "get_video"),
    ),
    "a failed source": (
        remix(source_generation_id="task_failed"),
        ("source_generation_id", "task_failed has failed, so there is nothing to use.", "another video"),
    ),
    "an unknown source": (
        remix(source_generation_id="task_absent"),
        ("source_generation_id", "no task task_absent", "list_videos"),
    ),
    "a source without a generation id": (
        remix(source_generation_id="task_anonymous"),
        ("source_generation_id", "no generation id"),
    ),
    "a variant that is not there": (
        remix(source_generation_id="task_finished#3"),
        ("source_generation_id", "no variant 3", "1 to 2"),
    ),
    "a request of ours that is not there": (remix(source_generation_id="req_1"), ("req_1", "list_videos")),
    "a blend of one": (blend({"generation_id": "gen_1"}), ("inpaint_items: 1 given", "exactly two")),
    "a blend of three": (
        blend(*[{"generation_id": "gen_1"}] * 3),
        ("inpaint_items: 3 given", "exactly two", "2 paid calls, each for a relative cost of 1.25"),
    ),
    "a blend with an item of two sources": (
        blend({"generation_id": "gen_1", "url": URL}, {"generation_id": "gen_2"}),
        ("inpaint_items[0]", "url and generation_id", "exactly one of"),
    ),
    "a blend with an unfinished source": (
        blend({"generation_id": "task_finished"}, {"generation_id": "task_running"}),
        ("inpaint_items[1].generation_id", "not finished"),
    ),
    "a blend with frames in reverse": (
        blend({"generation_id": "gen_1", "source_start_frame": 9, "source_end_frame": 3}, {"generation_id": "gen_2"}),
        ("inpaint_items[0].source_start_frame", "9 is after"),
    ),
}


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED)
async def test_bad_input_is_named_and_nothing_is_sent(
    call: tuple[str, Arguments], words: tuple[str, ...], gateway: FaultGateway, connect: Connect
) -> None:
    async with connect() as client:
        await assert_refused(client, *call, *words)
    assert gateway.requests("POST") == []


async def test_bad_input_is_a_tool_error_on_both_eras(era: Era, gateway: FaultGateway, connect: Connect) -> None:
    async with connect(era) as client:
        await assert_refused(client, "create_video", {"promt": "fly man"}, "did you mean prompt?")
        await assert_refused(client, *storyboard(30, 30), "actions[1].time")
    assert gateway.connections == 0


async def test_the_longest_prompt_is_a_setting(gateway: FaultGateway, connect: Connect) -> None:
    async with connect(max_prompt_length=5) as client:
        await assert_refused(client, *create(prompt="a boat"), "prompt: is 6 characters long", "at most 5")
        await assert_accepted(client, *create(prompt="a bus"))
    assert len(gateway.creates()) == 1


async def test_a_request_that_was_refused_leaves_no_row_behind(connect: Connect) -> None:
    async with connect() as client:
        await assert_refused(client, *create(n_frames=151))
        listed = await ask(client, "list_videos", {})
    assert listed.data["videos"] == []


# --- sloppy, and understood -----------------------------------------------------------------------


def body(operation: str = "simple_compose", **changes: Any) -> dict[str, Any]:
    """The documented body with our defaults; a change to None takes the field out."""
    usual = {"type": "video_gen", "prompt": "fly man", "width": 854, "height": 480, "n_frames": 150, "n_variants": 1}
    usual |= {"style": "natural", "operation": operation, "inpaint_items": []}
    return {name: value for name, value in (usual | changes).items() if value is not None}


BEATS = [{"time": 0, "description": "a door"}, {"time": 75, "description": "it opens"}]
SLOPPY: dict[str, tuple[tuple[str, Arguments], dict[str, Any]]] = {
    "only a prompt": (create(), body()),
    "seconds": (
        ("storyboard_video", {"actions": [BEATS[0], BEATS[1] | {"time": "2.5s"}]}),
        body("storyboard", prompt=None, actions=BEATS),
    ),
    "seconds that are near to each other": (
        ("storyboard_video", {"actions": [BEATS[0] | {"time": "0s"}, BEATS[1] | {"time": "0.1s"}]}),
        body("storyboard", prompt=None, actions=[BEATS[0], BEATS[1] | {"time": 3}]),
    ),
    "the first frame and seconds that are near to it": (
        ("storyboard_video", {"actions": [BEATS[0], BEATS[1] | {"time": "0.1s"}]}),
        body("storyboard", prompt=None, actions=[BEATS[0], BEATS[1] | {"time": 3}]),
    ),
    "frames from the first half second on": (
        ("storyboard_video", {"actions": [BEATS[0], BEATS[1] | {"time": 16}]}),
        body("storyboard", prompt=None, actions=[BEATS[0], BEATS[1] | {"time": 16}]),
    ),
    "an early frame before a late time with its unit": (
        ("storyboard_video", {"actions": [BEATS[0] | {"time": 10}, BEATS[1] | {"time": "2.5s"}]}),
        body("storyboard", prompt=None, actions=[BEATS[0] | {"time": 10}, BEATS[1]]),
    ),
    "one beat in the first second": (
        ("storyboard_video", {"actions": [BEATS[0] | {"time": 3}]}),
        body("storyboard", prompt=None, actions=[BEATS[0] | {"time": 3}]),
    ),
    "the longest prompt": (create(prompt="é" * 10_000), body(prompt="é" * 10_000)),
    "a range to the last frame of its source": (
        ("storyboard_video", {"inpaint_items": [{"generation_id": "task_finished", "source_end_frame": 299}]}),
        body("storyboard", prompt=None, inpaint_items=[{"generation_id": "gen_1", "source_end_frame": 299}]),
    ),
    "numbers as texts": (
        create(width="480", height="480", n_frames="300", n_variants="2"),
        body(width=480, height=480, n_frames=300, n_variants=2),
    ),
    "whole numbers as floats": (create(width=480.0, height=480.0, n_frames=150.0), body(width=480, height=480)),
    "null": (create(width=None, height=None, style=None, model=None, inpaint_items=None, dry_run=None), body()),
    "null as a text": (create(width="null", style="null", model="null", inpaint_items="null"), body()),
    "empty texts": (create(n_frames="", style=" ", model="", inpaint_items=""), body()),
    "false as a text": (create(dry_run="false"), body()),
    "a list as JSON text": (
        ("storyboard_video", {"prompt": "fly man", "actions": '[{"time": "0", "description": "a door"}]'}),
        body("storyboard", actions=BEATS[:1]),
    ),
    "items as JSON texts": (create(inpaint_items=[f'{{"url": "{URL}"}}']), body(inpaint_items=[{"url": URL}])),
    "an item with empty fields": (
        item(url=URL, upload_media_id="", frame_index=None),
        body(inpaint_items=[{"url": URL}]),
    ),
    "an image and no prompt": (item(url=URL), body(inpaint_items=[{"url": URL}])),
    "an empty amount": (
        remix(source_generation_id="gen_9", source_upload_media_id="", amount="null", **SHAPE),
        body("remix", prompt="now at night", **SHAPE, sdedit={"source_generation_id": "gen_9"}),
    ),
    "an amount as a text": (
        remix(source_upload_media_id="media_9", amount="6", **SHAPE),
        body("remix", prompt="now at night", **SHAPE, sdedit={"amount": 6, "source_upload_media_id": "media_9"}),
    ),
    "an upload in the place of a generation": (
        remix(source_generation_id="media_9", **SHAPE),
        body("remix", prompt="now at night", **SHAPE, sdedit={"source_upload_media_id": "media_9"}),
    ),
    "a task in the place of an upload": (
        remix(source_upload_media_id="task_finished"),
        body("remix", prompt="now at night", **SHAPE, sdedit={"source_generation_id": "gen_1"}),
    ),
    "a finished task as a source": (
        remix(source_generation_id=" task_finished ", amount=8),
        body("remix", prompt="now at night", **SHAPE, sdedit={"amount": 8, "source_generation_id": "gen_1"}),
    ),
    "its second variant": (
        remix(source_generation_id="task_finished#2"),
        body("remix", prompt="now at night", **SHAPE, sdedit={"source_generation_id": "gen_2"}),
    ),
    "a finished task, in another size": (
        remix(source_generation_id="task_finished", width="854"),
        body("remix", prompt="now at night", **SHAPE | {"width": 854}, sdedit={"source_generation_id": "gen_1"}),
    ),
    "a blend of a task and a generation": (
        blend({"generation_id": "task_finished", "url": ""}, {"generation_id": "gen_9", "source_end_frame": "60"}),
        body(
            "blend",
            prompt="one into the other",
            **SHAPE,
            inpaint_items=[{"generation_id": "gen_1"}, {"generation_id": "gen_9", "source_end_frame": 60}],
        ),
    ),
}


@pytest.mark.parametrize(("call", "expected"), SLOPPY.values(), ids=SLOPPY)
async def test_what_clients_really_send_becomes_the_one_right_body(
    call: tuple[str, Arguments], expected: dict[str, Any], gateway: FaultGateway, connect: Connect
) -> None:
    async with connect() as client:
        await assert_accepted(client, *call)
    [sent] = gateway.requests("POST")
    assert (sent.path, sent.headers["content-type"]) == (CREATE, "application/json")
    assert sent.json() == expected
    numbers = [value for name, value in sent.json().items() if name in {"width", "height", "n_frames", "n_variants"}]
    assert [type(number) for number in numbers] == [int] * 4


async def test_both_eras_send_the_same_body(era: Era, gateway: FaultGateway, connect: Connect) -> None:
    call, expected = SLOPPY["a finished task as a source"]
    async with connect(era) as client:
        told = await assert_accepted(client, *call)
    assert told.data["sources"] == ["task_finished"]
    assert [request.json() for request in gateway.requests("POST")] == [expected]


async def test_a_dry_run_shows_the_body_and_sends_no_post(
    gateway: FaultGateway, pictures: Path, connect: Connect
) -> None:
    (pictures / "door.png").write_bytes(PNG)
    sources = [{"generation_id": "task_finished"}, {"url": str(pictures / "door.png")}]
    tool, arguments = blend(*sources)
    async with connect() as client:
        told = await ask(client, tool, arguments | {"dry_run": True})
        listed = await ask(client, "list_videos", {})
    assert not told.is_error
    assert told.data["outcome"] == "not_submitted"
    assert NOTHING_SENT in told.text
    assert told.data["body"]["inpaint_items"][0] == {"generation_id": "gen_1"}
    assert (told.data["body"]["width"], told.data["body"]["n_frames"]) == (480, 300)
    assert [video["task_id"] for video in listed.data["videos"]] == ["task_finished"]
    assert gateway.requests("POST") == []


async def test_a_dry_run_needs_no_gateway(gateway: FaultGateway, connect: Connect) -> None:
    async with connect(base_url=None, api_key=None) as client:
        told = await ask(client, *create(dry_run="true"))
    assert not told.is_error
    assert told.data["body"] == body()
    assert gateway.connections == 0
