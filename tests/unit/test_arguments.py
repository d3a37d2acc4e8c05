"""Arguments as clients really send them: what is forgiven, what is refused, and in which words."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from sora_mcp import tools
from sora_mcp.core.errors import InvalidInput
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.sora.tables import CAPABILITIES
from sora_mcp.tools.arguments import parse
from sora_mcp.tools.blend_videos import BlendVideos
from sora_mcp.tools.create_video import CreateVideo
from sora_mcp.tools.get_video import GetVideo
from sora_mcp.tools.list_videos import ListVideos
from sora_mcp.tools.remix_video import RemixVideo
from sora_mcp.tools.storyboard_video import StoryboardVideo
from sora_mcp.tools.view_video import ViewVideo

IMAGE = {"url": "https://images.example/cat.png"}
JARGON = re.compile(r"pydantic|traceback|https://errors|validation error|input_value|_forbidden", re.IGNORECASE)


def refusal(model: type[BaseModel], arguments: object) -> str:
    """What is answered; always short, in our own words and safe to show."""
    with pytest.raises(InvalidInput) as caught:
        parse(model, arguments)
    assert_said_well(caught.value)
    return str(caught.value)


def assert_said_well(error: InvalidInput) -> None:
    text = str(error)
    assert error.problems
    assert error.outcome == "not_submitted"
    assert not JARGON.search(text), text
    assert len(text) <= 4000
    assert clean(text, 4000) == text


# --- what is forgiven -----------------------------------------------------------------------------


def test_no_arguments_are_an_empty_object() -> None:
    assert parse(ListVideos, None) == parse(ListVideos, {}) == ListVideos()


@pytest.mark.parametrize("nothing", [None, "null", "", "  ", " null "])
def test_nothing_sent_for_an_optional_argument_is_its_absence(nothing: str | None) -> None:
    given = parse(CreateVideo, {"prompt": "fly man", "n_frames": nothing, "inpaint_items": nothing, "model": nothing})
    assert given == CreateVideo(prompt="fly man")
    assert given.model_fields_set == {"prompt"}


def test_nothing_sent_inside_an_item_is_its_absence() -> None:
    item = IMAGE | {"upload_media_id": "", "frame_index": None}
    assert parse(CreateVideo, {"inpaint_items": [item]}) == parse(CreateVideo, {"inpaint_items": [IMAGE]})


def test_numbers_and_truths_may_come_as_text() -> None:
    given = parse(CreateVideo, {"prompt": "x", "width": "480", "height": " 480 ", "n_frames": 150.0, "dry_run": "true"})
    assert (given.width, given.height, given.n_frames, given.dry_run) == (480, 480, 150, True)
    assert parse(RemixVideo, {"prompt": "x", "amount": "2.5"}).amount == 2.5


@pytest.mark.parametrize(
    "items",
    [[IMAGE], json.dumps([IMAGE]), [json.dumps(IMAGE)], " " + json.dumps([IMAGE]), json.dumps([json.dumps(IMAGE)])],
    ids=str,
)
def test_lists_and_objects_may_come_as_json_text(items: object) -> None:
    assert parse(CreateVideo, {"inpaint_items": items}) == parse(CreateVideo, {"inpaint_items": [IMAGE]})


def test_a_prompt_that_looks_like_json_stays_a_text() -> None:
    prompt = '{"scene": "a neon sign that says [null]"}'
    assert parse(CreateVideo, {"prompt": prompt}).prompt == prompt


@pytest.mark.parametrize(
    ("time", "frame"),
    [(75, 75), ("75", 75), (75.0, 75), ("2.5s", 75), ("2.5 s", 75), (" 0S ", 0), ("1e0s", 30), ("0.1s", 3)],
)
def test_a_beat_is_a_frame_or_seconds(time: object, frame: int) -> None:
    given = parse(StoryboardVideo, {"actions": [{"time": time, "description": "noon"}]})
    assert given.actions is not None
    assert given.actions[0].time == frame


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "wrong", "right"),
    [
        (CreateVideo, "promt", "prompt"),
        (CreateVideo, "n_frame", "n_frames"),
        (CreateVideo, "Width", "width"),
        (GetVideo, "taskid", "task_id"),
        (RemixVideo, "source_generation", "source_generation_id"),
    ],
)
def test_an_unknown_argument_is_refused_with_what_was_meant(model: type[BaseModel], wrong: str, right: str) -> None:
    assert f"{wrong}: unknown argument (did you mean {right}?); allowed: " in refusal(model, {wrong: "x"})


def test_an_unknown_field_of_an_item_is_named_by_its_place() -> None:
    text = refusal(CreateVideo, {"inpaint_items": [IMAGE, {"ulr": "https://a.example/x.png"}]})
    assert "inpaint_items[1].ulr: unknown argument (did you mean url?)" in text


def test_an_argument_that_resembles_nothing_gets_no_guess() -> None:
    text = refusal(CreateVideo, {"zzz": 1})
    assert "zzz: unknown argument; allowed: prompt, " in text


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    [
        (CreateVideo, {"prompt": 5}, "prompt: 5 is not accepted; allowed: text"),
        (CreateVideo, {"prompt": ["a"]}, "prompt: a list is not accepted"),
        (CreateVideo, {"width": "wide"}, 'width: "wide" is not accepted; allowed: a whole number of at least 1'),
        (CreateVideo, {"n_frames": 150.5}, "n_frames: 150.5 is not accepted"),
        (CreateVideo, {"n_variants": 0}, "n_variants: 0 is not accepted; allowed: a whole number of at least 1"),
        (CreateVideo, {"style": "anime"}, 'style: "anime" is not accepted; allowed: natural'),
        (CreateVideo, {"dry_run": "perhaps"}, "dry_run: "),
        (CreateVideo, {"inpaint_items": "cat.png"}, 'inpaint_items: "cat.png" is not accepted; allowed: a list'),
        (CreateVideo, {"inpaint_items": ["cat.png"]}, "inpaint_items[0]: "),
        (CreateVideo, {"inpaint_items": [{"url": 1}]}, "inpaint_items[0].url: 1 is not accepted"),
        (RemixVideo, {"prompt": "x", "amount": 9}, "amount: 9 is not accepted; allowed: a number from 1 to 8"),
        (RemixVideo, {"prompt": "x", "amount": "nan"}, "amount: "),
        (RemixVideo, {}, "prompt: is missing; allowed: text"),
        (RemixVideo, {"prompt": None}, "prompt: "),
        (GetVideo, {}, "task_id: is missing"),
        (GetVideo, {"task_id": "task_1", "wait_seconds": 51}, "wait_seconds: 51 is not accepted"),
        (ViewVideo, {"task_id": "task_1", "frames": 17}, "a whole number from 1 to 16"),
        (ListVideos, {"status": "done"}, "status: "),
        (BlendVideos, {"prompt": "x"}, "inpaint_items: is missing; allowed: a list of 2"),
        (StoryboardVideo, {"actions": [{"time": 0}]}, "actions[0].description: is missing"),
        (StoryboardVideo, {"actions": [{"time": -1, "description": "x"}]}, "actions[0].time: -1 is not accepted"),
        (StoryboardVideo, {"actions": [{"time": "-1s", "description": "x"}]}, "actions[0].time: "),
        (StoryboardVideo, {"actions": [{"time": "infs", "description": "x"}]}, "actions[0].time: "),
        (
            StoryboardVideo,
            {"actions": [{"time": "0:02", "description": "x"}]},
            '"0:02" is not accepted; allowed: a frame from 0 on (30 per second), or seconds such as "2.5s"',
        ),
        (StoryboardVideo, {"actions": [{"time": "", "description": "x"}]}, "actions[0].time: "),
        (
            StoryboardVideo,
            {"actions": [{"time": 0, "description": "x", "duration": 3}]},
            "actions[0].duration: unknown argument; a beat lasts until the next one begins: leave it out",
        ),
        (
            CreateVideo,
            {"prompt": "x", "source_generation_id": "task_1"},
            "use remix_video with source_generation_id to change a finished video",
        ),
        (CreateVideo, [], "arguments: are not an object"),
        (CreateVideo, "prompt", "arguments: are not an object"),
    ],
    ids=str,
)
def test_a_refusal_names_the_field_and_what_is_allowed(model: type[BaseModel], arguments: object, text: str) -> None:
    assert text in refusal(model, arguments)


def test_a_refusal_names_several_problems_at_once() -> None:
    text = refusal(RemixVideo, {"promt": "x", "width": "wide", "amount": 0})
    for field in ("prompt: is missing", "promt: unknown", "width: ", "amount: "):
        assert field in text


# --- hostile arguments ----------------------------------------------------------------------------

DEEP = 100_000


@pytest.mark.parametrize(
    "value",
    [
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        "[" * 900 + "]" * 900,
        '{"url":' * DEEP,
        '{"url":' * 900 + "1" + "}" * 900,
        "[" + "1," * DEEP + "1]",
        '["' + "x" * DEEP + '"]',
        "[" + "9" * DEEP + "]",
        [{"url": [[]]}],
        {"a" * DEEP: 1},
        [{f"field{i}": i} for i in range(1000)],
    ],
    ids=lambda value: f"{str(value)[:20]}…",
)
def test_deep_and_huge_items_get_a_short_answer(value: object) -> None:
    refusal(CreateVideo, {"inpaint_items": value})


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [2, 300, 5000])
def test_a_list_in_a_list_in_a_list_gets_a_short_answer(depth: int) -> None:
    for model in (CreateVideo, StoryboardVideo, BlendVideos):
        refusal(model, {"inpaint_items": nested(depth), "prompt": nested(depth)})


@pytest.mark.parametrize("name", ["pro\u202empt", "\x1b[31mprompt", "a" * DEEP, "\ud800", "", "\u200b", "\n", "a.b[0]"])
def test_a_hostile_name_is_answered_without_repeating_it(name: str) -> None:
    refusal(CreateVideo, {name: 1})


def test_a_thousand_unknown_arguments_get_a_short_answer() -> None:
    text = refusal(CreateVideo, {f"unknown{i}": i for i in range(1000)})
    assert "more" in text


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**400), "9" * 400, 10**5000, "9" * 5000, float("inf"), 2**53],
    ids=["400 digits", "negative", "400 as text", "5000 digits", "5000 as text", "infinite", "past JSON"],
)
def test_a_number_that_no_video_has_is_refused(value: object) -> None:
    refusal(CreateVideo, {"prompt": "x", "width": value})
    refusal(CreateVideo, {"prompt": "x", "seconds": value, "size": value, "n": value, "image": value})
    refusal(ViewVideo, {"task_id": "task_1", "variant": value})
    refusal(GetVideo, {"task_id": "task_1", "wait_seconds": value})


def test_a_huge_number_where_a_text_belongs_is_refused() -> None:
    refusal(GetVideo, {"task_id": 10**5000})


@pytest.mark.parametrize(
    ("model", "arguments", "field"),
    [
        (CreateVideo, {"prompt": "half \ud800"}, "prompt"),
        (GetVideo, {"task_id": "\udfff"}, "task_id"),
        (CreateVideo, {"inpaint_items": [IMAGE, {"url": "https://a.example/\ud83d"}]}, "inpaint_items[1].url"),
        (StoryboardVideo, {"actions": '[{"time": 0, "description": "\\ud800"}]'}, "actions[0].description"),
    ],
)
def test_half_a_character_cannot_be_sent(model: type[BaseModel], arguments: dict[str, Any], field: str) -> None:
    assert refusal(model, arguments).startswith(f"{field}: ")


def test_names_that_are_no_text_are_refused() -> None:
    refusal(CreateVideo, {1: "x", None: "y"})


# --- anything at all ------------------------------------------------------------------------------

NAMES = sorted({name for tool in tools.TOOLS for name in tool.arguments.model_fields} | {"url", "time", "description"})
NAMES += ["seconds", "duration_ms", "size", "aspectRatio", "n", "image", "videos", "strength", "start", "text", "fps"]
names = st.sampled_from(NAMES) | st.text(st.characters(), max_size=10)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["null", "150", "2.5s", "[]", "[{}]", "{", "task_1", '[{"url": "x"}]', "NaN", "1e999s"])
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@pytest.mark.parametrize("model", [tool.arguments for tool in tools.TOOLS], ids=lambda model: str(model.__name__))
@given(arguments=st.dictionaries(names, values, max_size=5))
@example(arguments={"n": "null"})
@example(arguments={"seconds": "null", "duration": "NaN"})
def test_any_arguments_either_parse_or_are_refused_in_our_words(
    model: type[BaseModel], arguments: dict[str, Any]
) -> None:
    try:
        parsed = parse(model, arguments, CAPABILITIES)
    except InvalidInput as error:
        if not JARGON.search(repr(arguments)):  # what was sent is quoted back
            assert_said_well(error)
    else:
        assert json.loads(parsed.model_dump_json()) is not None
