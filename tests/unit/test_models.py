"""The documented body: the page's example, what is refused before money is spent, and text made safe to show."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from documented import PAGE_BODY
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import InvalidInput
from sora_mcp.core.models import Action, InpaintItem, SDEdit, VideoRequest
from sora_mcp.core.tasks import FINAL, clean
from sora_mcp.dialects.sora import CAPABILITIES, SIZES

IMAGE = InpaintItem(url="https://images.example/cat.png")
GENERATION = InpaintItem(generation_id="gen_1")


def compose(**values: Any) -> VideoRequest:
    return VideoRequest(**({"operation": "simple_compose", "prompt": "fly man"} | values))


def board(*beats: tuple[int, str], **values: Any) -> VideoRequest:
    actions = [Action(time=time, description=description) for time, description in beats]
    return VideoRequest(operation="storyboard", actions=actions, **values)


def remix(**source: Any) -> VideoRequest:
    return VideoRequest(operation="remix", prompt="at night", sdedit=SDEdit(**source))


def blend(*items: InpaintItem) -> VideoRequest:
    return VideoRequest(operation="blend", inpaint_items=list(items))


def offering(sizes: Iterable[tuple[int, int]] = (), lengths: Iterable[int] = (), max_variants: int = 4) -> Capabilities:
    """What is documented, and more."""
    return CAPABILITIES.extended(sizes, lengths, max_variants=max_variants, max_prompt=10_000)


def refused(request: VideoRequest, limits: Capabilities = CAPABILITIES) -> list[str]:
    """The fields that the check names."""
    with pytest.raises(InvalidInput) as caught:
        request.check(limits)
    assert caught.value.outcome == "not_submitted"
    return [problem.field for problem in caught.value.problems]


# --- the body -------------------------------------------------------------------------------------


def test_the_pages_example_is_the_body_of_its_prompt() -> None:
    assert compose().body() == PAGE_BODY


def test_the_model_is_sent_only_when_asked_for() -> None:
    assert "model" not in compose().body()
    assert compose(model="turbo").body()["model"] == "turbo"


def test_an_item_carries_only_what_was_given() -> None:
    assert compose(inpaint_items=[IMAGE]).body()["inpaint_items"] == [{"url": "https://images.example/cat.png"}]


def test_a_remix_names_its_source_inside_sdedit() -> None:
    body = remix(amount=2.5, source_generation_id="gen_1").body()
    assert body["sdedit"] == {"amount": 2.5, "source_generation_id": "gen_1"}


def test_all_eight_documented_fields_of_an_item_are_known() -> None:
    assert set(InpaintItem.model_fields) == {
        "type",
        "url",
        "frame_index",
        "preset_id",
        "generation_id",
        "upload_media_id",
        "source_start_frame",
        "source_end_frame",
    }


# --- what single fields accept --------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"operation": "upscale"},
        {"style": "anime"},
        {"type": "image_gen"},
        {"width": 0},
        {"height": -1},
        {"n_frames": 0},
        {"n_variants": 0},
        {"n_frames": 150.5},
        {"notify_hook": "https://hook.example"},
    ],
    ids=str,
)
def test_a_value_the_page_does_not_know_is_no_request(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        compose(**values)


@pytest.mark.parametrize("amount", [0, 0.99, 8.01, 9, float("nan"), float("inf")])
def test_amount_lies_between_one_and_eight(amount: float) -> None:
    with pytest.raises(ValidationError):
        SDEdit(amount=amount)


def test_a_frame_is_never_negative() -> None:
    with pytest.raises(ValidationError):
        Action(time=-1, description="x")
    with pytest.raises(ValidationError):
        InpaintItem(frame_index=-1)


# --- sizes and lengths ----------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), list(SIZES))
@pytest.mark.parametrize("n_frames", [150, 300])
def test_every_documented_size_and_length_is_accepted(width: int, height: int, n_frames: int) -> None:
    compose(width=width, height=height, n_frames=n_frames).check(CAPABILITIES)


@pytest.mark.parametrize(("width", "height"), [(480, 1280), (854, 854), (1920, 1080), (1, 1)])
def test_another_size_is_refused_with_the_sizes_and_the_setting(width: int, height: int) -> None:
    with pytest.raises(InvalidInput, match=r"width, height: .*480x854.*1280x720.*extra_sizes"):
        compose(width=width, height=height).check(CAPABILITIES)


@pytest.mark.parametrize("n_frames", [1, 149, 151, 450])
def test_another_length_is_refused_with_the_lengths_and_the_setting(n_frames: int) -> None:
    with pytest.raises(InvalidInput, match=r"n_frames: .*150 \(5 s\), 300 \(10 s\).*extra_frames"):
        compose(n_frames=n_frames).check(CAPABILITIES)


def test_more_variants_than_the_server_allows_are_refused() -> None:
    compose(n_variants=4).check(CAPABILITIES)
    assert refused(compose(n_variants=5)) == ["n_variants"]
    assert refused(compose(n_variants=2), offering(max_variants=1)) == ["n_variants"]


def test_settings_extend_the_tables() -> None:
    wide = compose(width=1920, height=1080, n_frames=450, n_variants=8)
    assert refused(wide) == ["width, height", "n_frames", "n_variants"]
    wide.check(offering([(1920, 1080)], [450], max_variants=8))
    assert refused(compose(width=1080, height=1920), offering([(1920, 1080)])) == ["width, height"]


def test_the_check_names_every_problem_at_once() -> None:
    wrong = compose(prompt=" ", width=480, height=1280, n_frames=151)
    assert refused(wrong) == ["width, height", "n_frames", "prompt"]


# --- operations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [None, "", " ", "\n\t"])
def test_a_blank_prompt_needs_an_image(prompt: str | None) -> None:
    assert refused(compose(prompt=prompt)) == ["prompt"]
    compose(prompt=prompt, inpaint_items=[IMAGE]).check(CAPABILITIES)


def test_a_storyboard_needs_a_beat_or_a_card_but_no_prompt() -> None:
    assert refused(VideoRequest(operation="storyboard", prompt="a day")) == ["actions"]
    assert refused(board(prompt="a day")) == ["actions"]
    board((0, "dawn"), (60, "noon")).check(CAPABILITIES)
    VideoRequest(operation="storyboard", inpaint_items=[GENERATION]).check(CAPABILITIES)


@pytest.mark.parametrize(
    ("beats", "field"),
    [
        ([(150, "late")], "actions[0].time"),
        ([(0, "a"), (9999, "late")], "actions[1].time"),
        ([(0, "a"), (0, "again")], "actions[1].time"),
        ([(60, "b"), (0, "a")], "actions[1].time"),
        ([(0, " ")], "actions[0].description"),
        ([(0, "a"), (60, "")], "actions[1].description"),
    ],
    ids=str,
)
def test_beats_stand_inside_the_video_in_order_once_and_say_something(beats: list[tuple[int, str]], field: str) -> None:
    assert refused(board(*beats)) == [field]


def test_the_last_frame_is_inside_the_video() -> None:
    board((149, "end")).check(CAPABILITIES)
    board((299, "end"), n_frames=300).check(CAPABILITIES)


@pytest.mark.parametrize("prompt", [None, "", "  "])
def test_a_remix_says_what_to_change(prompt: str | None) -> None:
    edit = SDEdit(source_generation_id="gen_1")
    assert refused(VideoRequest(operation="remix", prompt=prompt, sdedit=edit)) == ["prompt"]


def test_a_remix_has_exactly_one_source() -> None:
    remix(source_generation_id="gen_1").check(CAPABILITIES)
    remix(source_upload_media_id="media_1", amount=8).check(CAPABILITIES)
    assert refused(remix()) == ["source"]
    assert refused(VideoRequest(operation="remix", prompt="at night")) == ["source"]
    assert refused(remix(source_generation_id="gen_1", source_upload_media_id="media_1")) == ["source"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_blend_has_exactly_two_sources(count: int) -> None:
    assert refused(blend(*[GENERATION] * count)) == ["inpaint_items"]
    blend(GENERATION, IMAGE).check(CAPABILITIES)


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"frame_index": 3},
        {"url": "https://a.example/x.png", "generation_id": "gen_1"},
        {"url": "https://a.example/x.png", "upload_media_id": "media_1"},
        {"generation_id": "gen_1", "upload_media_id": "media_1"},
        {"url": "https://a.example/x.png", "generation_id": "gen_1", "upload_media_id": "media_1"},
    ],
    ids=str,
)
def test_an_item_has_exactly_one_source(item: dict[str, Any]) -> None:
    assert refused(compose(inpaint_items=[InpaintItem(**item)])) == ["inpaint_items[0]"]
    assert refused(blend(GENERATION, InpaintItem(**item))) == ["inpaint_items[1]"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "cat.png",
        "file:///etc/passwd",
        "ftp://a.example/x",
        "data:image/png;base64,AA",
        "https://",
        "http:///x",
    ],
)
def test_the_address_of_an_image_is_http(url: str) -> None:
    assert refused(compose(inpaint_items=[InpaintItem(url=url)])) == ["inpaint_items[0].url"]


@pytest.mark.parametrize("name", ["generation_id", "upload_media_id"])
def test_a_blank_id_is_no_source(name: str) -> None:
    assert refused(blend(GENERATION, InpaintItem.model_validate({name: " "}))) == [f"inpaint_items[1].{name}"]
    assert refused(remix(**{f"source_{name}": ""})) == [f"source_{name}"]


def test_an_item_stands_inside_the_video() -> None:
    assert refused(compose(inpaint_items=[InpaintItem(generation_id="gen_1", frame_index=150)])) == [
        "inpaint_items[0].frame_index"
    ]
    compose(inpaint_items=[InpaintItem(generation_id="gen_1", frame_index=149)]).check(CAPABILITIES)


def test_a_source_does_not_end_before_it_starts() -> None:
    item = InpaintItem(generation_id="gen_1", source_start_frame=10, source_end_frame=9)
    assert refused(blend(item, GENERATION)) == ["inpaint_items[0].source_start_frame"]
    blend(item.model_copy(update={"source_end_frame": 10}), GENERATION).check(CAPABILITIES)


# --- cost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "n_frames", "cost"),
    [
        (480, 480, 150, 1.0),
        (480, 854, 150, 1.25),
        (854, 480, 150, 1.25),
        (720, 720, 150, 1.5),
        (720, 1280, 150, 3.0),
        (1280, 720, 150, 3.0),
        (480, 480, 300, 2.0),
        (854, 480, 300, 2.5),
    ],
)
def test_the_relative_cost_follows_the_price_list(width: int, height: int, n_frames: int, cost: float) -> None:
    assert compose(width=width, height=height, n_frames=n_frames).cost(CAPABILITIES) == Cost.of(cost)


def test_variants_multiply_the_cost() -> None:
    assert compose(n_variants=3).cost(CAPABILITIES) == Cost.of(3.75)


def test_the_cost_of_what_no_list_names_is_not_guessed() -> None:
    assert compose(width=1920, height=1080).cost(CAPABILITIES) is None
    assert compose(n_frames=450).cost(CAPABILITIES) is None


# --- properties -----------------------------------------------------------------------------------

texts = st.text(max_size=20)
frames = st.integers(0, 149)
items = st.builds(
    lambda source, extra: InpaintItem(**source, **extra),
    st.sampled_from([{"url": "https://a.example/x.png"}, {"generation_id": "gen_1"}, {"upload_media_id": "media_1"}]),
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.just("image"),
            "frame_index": frames,
            "preset_id": texts,
            "source_start_frame": frames,
            "source_end_frame": st.integers(149, 10_000),
        },
    ),
)
sources = st.sampled_from([{"source_generation_id": "gen_1"}, {"source_upload_media_id": "media_1"}])
amounts = st.none() | st.floats(1, 8) | st.integers(1, 8)
beats = st.dictionaries(frames, st.text(min_size=1, max_size=20), max_size=3)
shapes: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "simple_compose": st.fixed_dictionaries({"inpaint_items": st.lists(items, min_size=1, max_size=3)}),
    "storyboard": st.fixed_dictionaries(
        {
            "actions": beats.map(lambda b: [Action(time=t, description=b[t]) for t in sorted(b)]),
            "inpaint_items": st.lists(items, min_size=1, max_size=2),
        }
    ),
    "remix": st.builds(lambda source, amount: {"sdedit": SDEdit(amount=amount, **source)}, sources, amounts),
    "blend": st.fixed_dictionaries({"inpaint_items": st.lists(items, min_size=2, max_size=2)}),
}


@st.composite
def requests(draw: st.DrawFn) -> VideoRequest:
    """Requests of which most pass the check."""
    operation = draw(st.sampled_from(list(shapes)))
    width, height = draw(st.sampled_from(list(SIZES)))
    common = {
        "width": width,
        "height": height,
        "prompt": draw(st.text(min_size=1, max_size=20) | st.none()) if operation != "remix" else "at night",
        "n_frames": draw(st.sampled_from([150, 300, 150.0])),
        "n_variants": draw(st.integers(1, 4)),
        "model": draw(st.none() | st.just("turbo")),
    }
    return VideoRequest.model_validate({"operation": operation} | common | draw(shapes[operation]))


def passes(request: VideoRequest) -> bool:
    try:
        request.check(CAPABILITIES)
    except InvalidInput:
        return False
    return True


def leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each, name)
    else:
        yield name, value


TEXTS = {
    "type",
    "prompt",
    "style",
    "operation",
    "model",
    "description",
    "url",
    "preset_id",
    "generation_id",
    "upload_media_id",
    "source_generation_id",
    "source_upload_media_id",
}


@given(requests())
def test_a_request_that_passes_has_no_nulls_and_whole_numbers_stay_whole(request: VideoRequest) -> None:
    assume(passes(request))
    sent = json.loads(json.dumps(request.body()))
    for name, value in leaves(sent):
        assert isinstance(value, str if name in TEXTS else float if name == "amount" else int), name


@given(requests())
def test_a_request_that_passes_reads_back_the_same(request: VideoRequest) -> None:
    assume(passes(request))
    assert VideoRequest.model_validate(request.body()) == request
    assert VideoRequest.model_validate_json(json.dumps(request.body())) == request


# --- text to show ---------------------------------------------------------------------------------

nasty = st.text(
    st.characters() | st.sampled_from("\x1b[]m;\x07\x00\x9b\x7f\r\n\t\u200b\u200d\u202e\u2066\ufeff\ud800\U000e0041"),
    max_size=80,
)


@given(nasty, st.integers(1, 60))
def test_cleaned_text_has_no_invisible_characters_and_keeps_to_its_limit(text: str, limit: int) -> None:
    shown = clean(text, limit)
    assert len(shown) <= limit
    others = shown.replace("\u200c", "").replace("\u200d", "")  # they stay where they belong to a word, or to an emoji
    assert not [c for c in others if unicodedata.category(c)[0] == "C" or (c.isspace() and c != " ")]


@given(nasty)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\n\nlines\tand  more ", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07shown", "shown"),
        ("\x1b]8;;https://evil.example\x1b\\link", "link"),
        ("a\u202eb\u2066c\u200bd\ufeffe", "abcde"),
        ("nul\x00 bell\x07", "nul bell"),
        ("日本語 🎬", "日本語 🎬"),
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645\u06cc\u200c\u062e\u0648"),
        ("क्\u200dष ന്\u200d ශ්\u200dරී", "क्\u200dष ന്\u200d ශ්\u200dරී"),
        ("👩\u200d🚀 👩🏽\u200d🚀 ❤️\u200d🔥", "👩\u200d🚀 👩🏽\u200d🚀 ❤️\u200d🔥"),
        ("i\u200dg\u200cnore \u200d\u200c\u200d é\u200dé", "ignore éé"),
        ("👩\u200d\u200d\u200c🚀", "👩\u200d🚀"),
    ],
)
def test_what_is_shown_of_a_text(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_long_text_says_that_it_goes_on() -> None:
    assert clean("a" * 100, 10) == "aaaaaaaaa…"


@pytest.mark.parametrize("state", ["sending", "submitted", "queued", "running", "unknown"])
def test_what_may_still_change_is_not_final(state: str) -> None:
    assert state not in FINAL
