"""The dialect of `/v1/videos`: what each profile sends, what it refuses, and what answers mean. No I/O."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_mcp.config.endpoint import PROFILES as NAMES
from sora_mcp.config.settings import load
from sora_mcp.core.errors import BadReply, InvalidInput, NotConfigured, NotFound, OutcomeUnknown, Refused
from sora_mcp.core.models import Action, InpaintItem, SDEdit, VideoRequest
from sora_mcp.dialects import named
from sora_mcp.dialects.protocol import CannotExpress, Measurements, Picture, SourceVideo
from sora_mcp.dialects.replies import Reply
from sora_mcp.dialects.shots import prompt_with_shots
from sora_mcp.dialects.videos import PROFILES, Videos
from sora_mcp.dialects.videos.profiles import Profile

OURS = {"type", "operation", "style", "width", "height", "n_frames", "n_variants", "actions", "inpaint_items", "sdedit"}
"""Fields of the documented body, which no other server knows."""


def videos(profile: str, model: str | None = None) -> Videos:
    return Videos(PROFILES[profile], model or ("some-model" if PROFILES[profile].needs_model else None))


def request(**values: Any) -> VideoRequest:
    return VideoRequest(**({"operation": "simple_compose", "prompt": "fly man"} | values))


def storyboard(*times: int, **values: Any) -> VideoRequest:
    actions = [Action(time=time, description=f"beat {time}") for time in times]
    return request(operation="storyboard", actions=actions, **values)


def reply(status: int, content: Any = None) -> Reply:
    return Reply(status, {}, content if isinstance(content, bytes | None) else json.dumps(content).encode())


def form(dialect: Videos, asked: VideoRequest) -> dict[str, str]:
    dialect.check(asked)
    return dict(dialect.create(asked).form or {})


def adjusted(dialect: Videos, asked: VideoRequest) -> list[tuple[str, str, str]]:
    return [(each.field, each.asked, each.sent) for each in dialect.plan(asked).adjusted]


# --- what is sent ---------------------------------------------------------------------------------


def test_every_name_has_its_profile_and_its_dialect() -> None:
    assert tuple(PROFILES) == NAMES
    for name in NAMES:
        dialect = named(f"videos:{name}", load({}, model="m"))
        assert isinstance(dialect, Videos)
        assert dialect.profile.name == name


@pytest.mark.parametrize("profile", NAMES)
def test_no_field_of_the_documented_body_is_sent(profile: str) -> None:
    sent = form(videos(profile), request(width=854, height=480, n_frames=150))
    assert not OURS & set(sent)
    assert sent["prompt"] == "fly man"


@pytest.mark.parametrize("profile", NAMES)
def test_a_prompt_alone_is_enough_everywhere_and_what_was_not_given_is_told(profile: str) -> None:
    dialect = videos(profile)
    assert form(dialect, request())["prompt"] == "fly man"
    assert [each[:2] for each in adjusted(dialect, request())] == [("size", "not given"), ("n_frames", "not given")]


def test_generic_sends_the_common_fields_and_nothing_else() -> None:
    dialect = videos("generic")
    assert form(dialect, request()) == {"prompt": "fly man", "model": "some-model"}
    asked = request(width=854, height=480, n_frames=150)
    assert form(dialect, asked) == {"prompt": "fly man", "model": "some-model", "size": "854x480", "seconds": "5"}
    assert adjusted(dialect, asked) == []


def test_a_length_between_two_seconds_becomes_the_nearer_one_and_is_told() -> None:
    assert ("n_frames", "5.33 s", "5 s") in adjusted(videos("generic"), request(n_frames=160))
    assert ("n_frames", "5.03 s", "81 frames at 16 fps") in adjusted(videos("vllm-omni"), request(n_frames=151))
    assert ("n_frames", "333.33 s", "333 s") in adjusted(videos("generic"), request(n_frames=10_000))


def test_generic_needs_a_models_name() -> None:
    with pytest.raises(NotConfigured, match="model"):
        Videos(PROFILES["generic"]).check(request())
    Videos(PROFILES["generic"]).check(request(model="sora-2"))


@pytest.mark.parametrize(
    ("model", "size", "n_frames", "sent"),
    [
        (None, (480, 854), 300, {"size": "480x832", "num_frames": "161", "fps": "16"}),
        (None, (854, 480), 150, {"size": "832x480", "num_frames": "81", "fps": "16"}),
        (None, (1280, 720), 150, {"size": "1280x720", "num_frames": "81", "fps": "16"}),
        ("Wan-AI/Wan2.2-TI2V-5B-Diffusers", (1280, 720), 150, {"size": "1280x704", "num_frames": "121", "fps": "24"}),
        ("Wan-AI/Wan2.2-T2V-A14B-Diffusers", (720, 720), 30, {"size": "720x720", "num_frames": "17", "fps": "16"}),
        ("Lightricks/LTX-2", (854, 480), 150, {"size": "832x480", "num_frames": "121", "fps": "24"}),
    ],
)
def test_vllm_omni_is_told_frames_and_a_rate_by_the_models_rule(
    model: str | None, size: tuple[int, int], n_frames: int, sent: dict[str, str]
) -> None:
    dialect = videos("vllm-omni", model)
    named_model = {"model": model} if model else {}
    asked = request(width=size[0], height=size[1], n_frames=n_frames)
    assert form(dialect, asked) == {"prompt": "fly man"} | named_model | sent


def test_what_became_of_size_and_length_is_told() -> None:
    asked = request(width=854, height=480, n_frames=150)
    assert adjusted(videos("vllm-omni"), asked) == [
        ("size", "854x480", "832x480"),
        ("n_frames", "5 s", "81 frames at 16 fps"),
    ]


def test_tensorrt_llm_and_sglang_have_words_of_their_own() -> None:
    assert set(form(videos("tensorrt-llm"), request())) == {"prompt", "size", "num_frames", "frame_rate"}
    assert form(videos("sglang"), request(n_variants=3))["n"] == "3"


def test_an_image_is_the_forms_one_file() -> None:
    asked = request(inpaint_items=[InpaintItem(url="https://example.com/a.png")])
    videos("vllm-omni").check(asked)
    call = videos("vllm-omni").create(asked, {0: Picture("image.png", b"png", "image/png")})
    assert dict(call.files or {}) == {"input_reference": ("image.png", b"png", "image/png")}
    assert (call.method, call.path, call.json) == ("POST", "/v1/videos", None)


def test_a_remix_goes_to_the_videos_own_address() -> None:
    edit = SDEdit(source_generation_id="video/a+b=")
    asked = request(operation="remix", sdedit=edit)
    videos("new-api").check(asked)
    call = videos("new-api").create(asked)
    assert (call.path, call.json) == ("/v1/videos/video%2Fa%2Bb%3D/remix", {"prompt": "fly man"})


def test_a_profile_is_data() -> None:
    dialect = Videos(Profile(name="another", shot_template="[{start:.1f}] {text}"))
    assert form(dialect, storyboard(0, 60))["prompt"] == "fly man\n[0.0] beat 0\n[2.0] beat 60"


# --- storyboards ----------------------------------------------------------------------------------


def test_a_storyboard_is_lowered_into_timed_shots() -> None:
    lines = form(videos("vllm-omni"), storyboard(0, 60, 110))["prompt"].splitlines()
    assert lines == [
        "fly man",
        "Shot 1 (0.0-2.0 s): beat 0",
        "Shot 2 (2.0-3.7 s): beat 60",
        "Shot 3 (3.7-5.0 s): beat 110",
    ]
    assert ("actions", "3 beats", "3 timed shots in the prompt") in adjusted(videos("generic"), storyboard(0, 60, 110))


@given(
    gaps=st.lists(st.integers(30, 90), min_size=1, max_size=8),
    texts=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1), min_size=8
    ),
    profile=st.sampled_from(NAMES),
    rest=st.integers(0, 60),
)
def test_every_beat_stands_once_and_in_order_with_times_within_the_length(
    gaps: list[int], texts: list[str], profile: str, rest: int
) -> None:
    times = [sum(gaps[:i]) for i in range(len(gaps))]
    actions = [
        Action(time=time, description=f"<{i}>{text}") for i, (time, text) in enumerate(zip(times, texts, strict=False))
    ]
    n_frames = sum(gaps) + rest
    asked = request(operation="storyboard", actions=actions, n_frames=n_frames)
    dialect = videos(profile)
    try:
        dialect.check(asked)
    except CannotExpress:
        return  # the length was rounded down, and the last beat is shorter than a second then
    lines = (dialect.create(asked).form or {})["prompt"].split("\n")[1:]
    assert len(lines) == len(actions)
    spans = [line.partition("(")[2].partition(" s)")[0].split("-") for line in lines]
    assert all(float(start) < float(end) for start, end in spans)
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
    assert float(spans[-1][1]) <= n_frames / 30 + 0.5
    for line, action in zip(lines, actions, strict=True):
        assert line.endswith(f"s): {action.description.strip()}")


def test_no_time_lies_past_the_end() -> None:
    assert prompt_with_shots(None, [Action(time=0, description="a")], 5.0625) == "Shot 1 (0.0-5.0 s): a"


# --- what is refused ------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, VideoRequest, str]] = {
    "variants": ("vllm-omni", request(n_variants=2), "n_variants"),
    "more variants than there are": ("sglang", request(n_variants=11), "n_variants"),
    "a remix": ("vllm-omni", request(operation="remix", sdedit=SDEdit(source_generation_id="a")), "operation"),
    "an amount": ("new-api", request(operation="remix", sdedit=SDEdit(source_generation_id="a", amount=3)), "amount"),
    "a remix's size": (
        "new-api",
        request(operation="remix", sdedit=SDEdit(source_generation_id="a"), width=480),
        "width",
    ),
    "a blend": ("generic", request(operation="blend", inpaint_items=[InpaintItem(generation_id="a")] * 2), "operation"),
    "three images": ("generic", request(inpaint_items=[InpaintItem(url="https://e.com/a.png")] * 3), "inpaint_items"),
    "an image in the middle": (
        "generic",
        request(inpaint_items=[InpaintItem(url="https://e.com/a.png", frame_index=30)]),
        "inpaint_items[0].frame_index",
    ),
    "an upload": ("generic", request(inpaint_items=[InpaintItem(upload_media_id="media_1")]), "upload_media_id"),
    "a card": ("generic", request(inpaint_items=[InpaintItem(generation_id="gen_1")]), "generation_id"),
    "no prompt": ("generic", request(prompt=None, inpaint_items=[InpaintItem(url="https://e.com/a.png")]), "prompt"),
    "a short beat": ("vllm-omni", storyboard(0, 20, 60), "actions[0].time"),
    "a short last beat": ("generic", storyboard(0, 60, 140), "actions[2].time"),
    "a size of nothing": ("vllm-omni", request(width=8, height=8), "width, height"),
}


@pytest.mark.parametrize(("profile", "asked", "field"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_said_is_refused_by_name(profile: str, asked: VideoRequest, field: str) -> None:
    with pytest.raises(CannotExpress) as refused:
        videos(profile).check(asked)
    assert any(field in problem.field for problem in refused.value.problems)
    assert all(problem.reason and problem.allowed for problem in refused.value.problems)


@pytest.mark.parametrize("profile", NAMES)
def test_a_size_or_length_that_no_server_makes_is_refused(profile: str) -> None:
    for asked, said in (
        (request(width=99_999, height=480), "at most 8192 pixels a side"),
        (request(n_frames=10**9), r"at most 18000 \(600 s\)"),
    ):
        with pytest.raises(InvalidInput, match=said):
            videos(profile).check(asked)


def test_what_is_wrong_anywhere_is_wrong_here() -> None:
    with pytest.raises(InvalidInput, match="past the end"):
        videos("generic").check(storyboard(0, 300))


# --- what an answer to a create means ---------------------------------------------------------------

OBJECT = {"id": "video_1", "object": "video", "status": "queued", "progress": 0, "error": None}
FAILED = OBJECT | {"status": "failed", "error": {"code": 500, "message": "engine said no"}}
LONG_ID = "video_" + "aB+/" * 73 + "=="

ACCEPTED: dict[str, tuple[int, Any, str]] = {
    "200": (200, OBJECT, "video_1"),
    "202": (202, OBJECT, "video_1"),
    "a failed job with 500": (500, FAILED, "video_1"),
    "a failed job with 400": (400, FAILED, "video_1"),
    "an error that is a text": (200, OBJECT | {"error": "no"}, "video_1"),
    "an id of 300 characters": (200, OBJECT | {"id": LONG_ID}, LONG_ID),
    "a task_id": (200, {"task_id": "task_9", "status": "queued"}, "task_9"),
    "an envelope": (200, {"code": "success", "data": OBJECT}, "video_1"),
    "a bare id": (200, {"id": "x"}, "x"),
    "a number": (200, OBJECT | {"id": 17}, "17"),
}


@pytest.mark.parametrize(("status", "content", "task_id"), ACCEPTED.values(), ids=ACCEPTED)
def test_an_id_that_can_be_read_is_never_thrown_away(status: int, content: Any, task_id: str) -> None:
    assert videos("generic").read_created(reply(status, content)).task_id == task_id


FASTAPI = {"detail": [{"type": "missing", "loc": ["body", "prompt"], "msg": "Field required"}]}
OPENAI = {"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}}
NEW_API = {"code": "quota_not_enough", "message": "the balance is used up", "data": None}

REJECTED: dict[str, tuple[int, Any]] = {
    "FastAPI 422": (422, FASTAPI),
    "FastAPI 400": (400, {"detail": "Model mismatch"}),
    "OpenAI 404": (404, OPENAI),
    "OpenAI 401": (401, {"error": {"message": "Invalid key"}}),
    "new-api 403": (403, NEW_API),
    "new-api without a channel": (503, {"error": {"message": "no channel", "type": "new_api_error"}}),
    "a page of a proxy": (413, b"<html>too large</html>"),
    "429": (429, {"detail": "busy"}),
    "a redirect": (307, b""),
}


@pytest.mark.parametrize(("status", "content"), REJECTED.values(), ids=REJECTED)
def test_a_refusal_is_a_refusal(status: int, content: Any) -> None:
    with pytest.raises(Refused):
        videos("generic").read_created(reply(status, content))


UNKNOWN: dict[str, tuple[int, Any]] = {
    "500 without an object": (500, {"detail": "Internal Server Error"}),
    "503 of a server": (503, {"detail": "busy"}),
    "504 of a proxy": (504, b"<html>timeout</html>"),
    "408": (408, {"error": {"message": "timeout"}}),
    "409": (409, {"detail": "conflict"}),
    "a success without an id": (200, {"status": "queued"}),
    "a success that is an error with an id": (200, {"id": "req", "error": {"message": "no"}}),
    "an error that names an id": (400, {"id": "x", "message": "hm", "code": "y"}),
    "a refusal that was cut off": (422, None),
    "a job that new-api could not record": (400, {"code": "insert_task_failed", "message": "no"}),
    "a 400 in no known shape": (400, {"hello": 1}),
    "nonsense": (200, b"\xff\xfe"),
    "a list": (200, []),
}


@pytest.mark.parametrize(("status", "content"), UNKNOWN.values(), ids=UNKNOWN)
def test_anything_doubtful_is_unknown(status: int, content: Any) -> None:
    with pytest.raises(OutcomeUnknown):
        videos("generic").read_created(reply(status, content))


def test_a_429_with_words_may_be_sent_again_and_one_about_the_balance_may_not() -> None:
    for content, again in (({"detail": "busy"}, True), (b"", False), (NEW_API, False)):
        with pytest.raises(Refused) as refused:
            videos("generic").read_created(reply(429, content))
        assert refused.value.may_be_sent_again is again


@given(
    status=st.integers(200, 599),
    content=st.one_of(
        st.binary(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["id", "object", "status", "error", "detail", "data", "message", "code", "urls", "progress"]
                    ),
                    inner,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_no_answer_crashes(status: int, content: bytes) -> None:
    dialect = videos("vllm-omni")
    for read in (dialect.read_created, lambda r: dialect.read_task(r, "x"), dialect.read_models):
        with suppress(Refused, OutcomeUnknown, BadReply, NotFound):
            read(Reply(status, {}, content))


# --- what an answer to a query says -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "content", "state"),
    [
        (200, OBJECT, "queued"),
        (200, OBJECT | {"status": "in_progress", "progress": 40}, "running"),
        (200, OBJECT | {"status": "completed"}, "succeeded"),
        (500, FAILED, "failed"),
        (404, FAILED, "failed"),
        (200, OBJECT | {"status": "failed", "error": "out of memory"}, "failed"),
        (200, OBJECT | {"status": "failed", "error": {"code": "moderation_blocked"}}, "blocked"),
        (200, OBJECT | {"status": "unknown"}, "queued"),
        (200, OBJECT | {"status": "rendering"}, "running"),
        (500, {"error": {"message": f"litellm.InternalServerError: {json.dumps(FAILED)}"}}, "failed"),
    ],
)
def test_the_object_wins_over_the_status(status: int, content: Any, state: str) -> None:
    assert videos("generic").read_task(reply(status, content), "video_1").state == state


def test_the_reason_of_a_failure_is_read_from_all_its_shapes() -> None:
    dialect = videos("vllm-omni")
    assert dialect.read_task(reply(500, FAILED), "x").gateway_message == "engine said no"
    assert dialect.read_task(reply(200, OBJECT | {"status": "failed", "error": "no memory"}), "x").failure_reason == (
        "no memory"
    )


def test_files_stand_under_content_whatever_addresses_the_object_holds() -> None:
    done = OBJECT | {"status": "completed", "url": "https://evil.example/x.mp4", "urls": ["a", "b"]}
    urls = [each.url for each in videos("sglang").read_task(reply(200, done), "a/b").generations]
    assert urls == ["/v1/videos/a%2Fb/content?variant=0", "/v1/videos/a%2Fb/content?variant=1"]
    one = videos("generic").read_task(reply(200, OBJECT | {"status": "completed"}), "a+b").generations
    assert [each.url for each in one] == ["/v1/videos/a%2Bb/content"]


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (404, {"detail": "Video not found"}, NotFound),
        (404, b"<html>nginx</html>", BadReply),
        (400, {"code": "task_not_exist", "message": "no"}, NotFound),
        (401, {"detail": "no"}, Refused),
        (500, {"detail": "no"}, BadReply),
        (200, {"hello": 1}, BadReply),
    ],
)
def test_what_is_no_video_is_no_task(status: int, content: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        videos("generic").read_task(reply(status, content), "x")


# --- what depends on the model --------------------------------------------------------------------

VACE = "Wan-AI/Wan2.1-VACE-14B-diffusers"
H3 = "MiniMaxAI/MiniMax-H3"


@pytest.mark.parametrize(
    ("profile", "model", "remix", "blend", "images"),
    [
        ("vllm-omni", None, "impossible", "impossible", "first"),
        ("vllm-omni", "Wan-AI/Wan2.2-T2V-A14B-Diffusers", "impossible", "impossible", "first"),
        ("vllm-omni", VACE, "by_reference", "impossible", "first"),
        ("vllm-omni", H3, "impossible", "bridged", "first_and_last"),
        ("sglang", None, "by_reference", "impossible", "first"),
        ("sglang", "nvidia/Cosmos3", "by_reference", "impossible", "first"),
        ("sglang", "Wan-AI/Wan2.2-I2V-A14B-Diffusers", "impossible", "impossible", "first"),
        ("tensorrt-llm", None, "impossible", "impossible", "first"),
        ("generic", None, "impossible", "impossible", "first"),
        ("new-api", None, "exact", "impossible", "first"),
    ],
)
def test_what_an_operation_becomes_may_depend_on_the_model(
    profile: str, model: str | None, remix: str, blend: str, images: str
) -> None:
    capabilities = videos(profile, model).capabilities
    assert (capabilities.support("remix"), capabilities.support("blend")) == (remix, blend)
    assert capabilities.images == images


def test_a_model_that_is_named_in_the_call_counts() -> None:
    edit = SDEdit(source_generation_id="video_1")
    with pytest.raises(CannotExpress, match="whose model has vace in its name"):
        videos("vllm-omni").check(request(operation="remix", sdedit=edit))
    asked = request(operation="remix", sdedit=edit, model=VACE)
    videos("vllm-omni").check(asked)
    assert [need.kind for need in videos("vllm-omni").plan(asked).needs] == ["file"]
    blend = request(operation="blend", inpaint_items=[InpaintItem(generation_id="a"), InpaintItem(generation_id="b")])
    with pytest.raises(CannotExpress, match="whose model has minimax-h3 in its name"):
        videos("vllm-omni", VACE).check(blend)


def test_a_model_of_which_nothing_is_known_is_told_as_a_guess() -> None:
    dialect = videos("vllm-omni", "somebody/new-model")
    asked = request(width=854, height=480, n_frames=150)
    assert dict(form(dialect, asked))["num_frames"] == "81"
    (length,) = [sent for field, _, sent in adjusted(dialect, asked) if field == "n_frames"]
    assert length == "81 frames at 16 fps, as Wan makes (what somebody/new-model makes is not known here)"
    assert any("guess" in rule for rule in dialect.capabilities.rules())
    for known in (None, "Wan-AI/Wan2.2", H3):
        assert not any("guess" in rule for rule in videos("vllm-omni", known).capabilities.rules())


@pytest.mark.parametrize(
    ("n_frames", "sent"), [(120, "107"), (150, "124"), (300, "243"), (450, "345"), (119, None), (451, None), (30, None)]
)
def test_minimax_h3_makes_four_to_fifteen_seconds(n_frames: int, sent: str | None) -> None:
    dialect, asked = videos("vllm-omni", H3), request(width=854, height=480, n_frames=n_frames)
    if sent is None:
        with pytest.raises(CannotExpress, match="120 to 450"):
            dialect.check(asked)
        return
    assert form(dialect, asked) == {
        "prompt": "fly man",
        "model": H3,
        "size": "832x480",
        "num_frames": sent,
        "fps": "24",
        "aspect_ratio": "16:9",
    }


def test_an_image_on_vace_is_told_as_what_it_becomes() -> None:
    asked = request(inpaint_items=[InpaintItem(url="https://example.com/a.png")])
    told = [each[0::2] for each in adjusted(videos("vllm-omni", VACE), asked)]
    assert ("inpaint_items", "a reference for what is seen") in told


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 600), st.floats(1, 120))
def test_what_is_sent_of_a_source_is_never_more_than_it_has(width: int, height: int, n_frames: int, fps: float) -> None:
    source = SourceVideo(name="video_1", measurements=Measurements(width, height, n_frames, fps), content=b"x")
    asked = request(operation="remix", sdedit=SDEdit(source_generation_id="video_1"), model=VACE)
    call = videos("vllm-omni").create(asked, None, source)
    form = call.form or {}
    sent_width, sent_height = map(int, form["size"].split("x"))
    assert sent_width <= width
    assert sent_height <= height
    assert int(form["num_frames"]) % 4 == 1
    assert int(form["num_frames"]) <= n_frames
