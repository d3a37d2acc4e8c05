"""The dialect of OpenRouter: what each kind of model is sent, what is refused, and what answers mean. No I/O."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_mcp.config.settings import load
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import BadReply, InvalidInput, NotFound, OutcomeUnknown, Refused, SoraError
from sora_mcp.core.models import Action, InpaintItem, SDEdit, VideoRequest
from sora_mcp.dialects import configured, named
from sora_mcp.dialects.openrouter import OpenRouter
from sora_mcp.dialects.protocol import Picture, SourceVideo
from sora_mcp.dialects.replies import Reply

OURS = {"type", "operation", "style", "width", "height", "n_frames", "n_variants", "actions", "inpaint_items", "sdedit"}
"""Fields of the documented body, which no other server knows."""

SIZED = {
    "id": "maker/sized",
    "supported_sizes": ["1280x720", "720x1280", "864x480"],
    "supported_resolutions": ["480p", "720p"],
    "supported_aspect_ratios": ["16:9", "9:16"],
    "supported_durations": [4, 6, 8],
    "supported_frame_images": ["first_frame", "last_frame"],
    "generate_audio": True,
    "seed": True,
}
SHAPED = {
    "id": "maker/shaped",
    "supported_sizes": None,
    "supported_resolutions": ["768P", "1080p"],
    "supported_aspect_ratios": ["16:9", "1:1"],
    "supported_durations": [5, 10],
    "supported_frame_images": ["first_frame"],
    "generate_audio": False,
    "seed": False,
    "allowed_passthrough_parameters": ["previous_job_id"],
}
OPEN = {"id": "maker/open"} | {
    f"supported_{name}": None for name in ("sizes", "resolutions", "aspect_ratios", "durations", "frame_images")
}
TEXT_ONLY = {"id": "maker/text", "supported_frame_images": []}
UPSCALER = {"id": "maker/upscaler", "upscale_factor": {"min": 1, "max": 4}, "creativity": [1, 2]}
WATCHER = {"id": "maker/watcher", "allowed_passthrough_parameters": ["input_references"]}
LIST = {"data": [SIZED, SHAPED, OPEN, TEXT_ONLY, UPSCALER, WATCHER]}


def reply(status: int, content: Any = None, **headers: str) -> Reply:
    return Reply(
        status, headers, content if isinstance(content, bytes | None) else json.dumps(content).encode(), now=1000.0
    )


def openrouter(model: str | None = "maker/sized", listed: Any = LIST, **settings: Any) -> OpenRouter:
    dialect = configured(load({}, dialect="openrouter", model=model or "", **settings))
    assert isinstance(dialect, OpenRouter)
    dialect.load_catalogue(dialect.read_catalogue(reply(200, listed)))
    return dialect


def request(**values: Any) -> VideoRequest:
    return VideoRequest(**({"operation": "simple_compose", "prompt": "fly man"} | values))


def storyboard(*times: int, **values: Any) -> VideoRequest:
    actions = [Action(time=time, description=f"beat {time}") for time in times]
    return request(operation="storyboard", actions=actions, **values)


def image(**values: Any) -> InpaintItem:
    return InpaintItem(**({"url": "https://pictures.example/a.png"} | values))


def body(dialect: OpenRouter, asked: VideoRequest) -> dict[str, Any]:
    dialect.check(asked)
    return dict(dialect.create(asked).json or {})


def adjusted(dialect: OpenRouter, asked: VideoRequest) -> list[tuple[str, str, str]]:
    return [(each.field, each.asked, each.sent) for each in dialect.plan(asked).adjusted]


def refused(dialect: OpenRouter, asked: VideoRequest) -> str:
    with pytest.raises(InvalidInput) as caught:
        dialect.check(asked)
    assert caught.value.outcome == "not_submitted"
    return caught.value.message


# --- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["maker/sized", "maker/shaped", "maker/open", "maker/text"])
def test_a_prompt_alone_is_enough_everywhere_and_no_field_of_the_documented_body_is_sent(model: str) -> None:
    sent = body(openrouter(model), request())
    assert (sent["model"], sent["prompt"]) == (model, "fly man")
    assert not OURS & set(sent)


def test_a_size_that_is_listed_is_sent_as_it_is() -> None:
    asked = request(width=720, height=1280, n_frames=180)
    assert body(openrouter(), asked) == {
        "model": "maker/sized",
        "prompt": "fly man",
        "size": "720x1280",
        "duration": 6,
    }
    assert adjusted(openrouter(), asked) == []


def test_a_size_that_is_not_listed_goes_as_resolution_and_ratio_and_that_is_told() -> None:
    sent = body(openrouter(), request(width=854, height=480, n_frames=240))
    assert (sent["resolution"], sent["aspect_ratio"]) == ("480p", "16:9")
    assert "size" not in sent
    assert adjusted(openrouter(), request(width=854, height=480, n_frames=240)) == [("size", "854x480", "480p 16:9")]


def test_where_no_sizes_are_listed_resolution_and_ratio_say_it_in_the_lists_spelling() -> None:
    dialect = openrouter("maker/shaped")
    assert body(dialect, request(width=1366, height=768, n_frames=150)) == {
        "model": "maker/shaped",
        "prompt": "fly man",
        "resolution": "768P",
        "aspect_ratio": "16:9",
        "duration": 5,
    }
    assert adjusted(dialect, request(width=1366, height=768, n_frames=150)) == []


def test_our_defaults_become_the_nearest_and_that_is_told() -> None:
    assert adjusted(openrouter("maker/shaped"), request()) == [("size", "not given", "1366x768")]
    assert ("n_frames", "not given", "4 s") in adjusted(openrouter(), request())
    assert body(openrouter(), request())["duration"] == 4


def test_where_nothing_is_listed_what_was_not_given_is_left_to_the_upstream() -> None:
    dialect = openrouter("maker/open")
    assert body(dialect, request()) == {"model": "maker/open", "prompt": "fly man"}
    assert [each[1:] for each in adjusted(dialect, request())] == [("not given", "the upstream's default")] * 2
    asked = request(width=854, height=480, n_frames=150)
    assert body(dialect, asked) == {"model": "maker/open", "prompt": "fly man", "size": "854x480", "duration": 5}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"width": 1920, "height": 1080}, ("width, height", "1280x720 is nearest", "864x480")),
        ({"width": 480, "height": 480}, ("width, height", "is nearest")),
        ({"n_frames": 150}, ("n_frames", "5 s", "120 (4 s) is nearest", "180 (6 s)", "240 (8 s)")),
        ({"n_frames": 170}, ("n_frames", "5.67 s", "180 (6 s) is nearest")),
    ],
)
def test_what_was_given_and_is_not_listed_is_refused_with_the_nearest(
    asked: dict[str, int], words: tuple[str, ...]
) -> None:
    message = refused(openrouter(), request(**asked))
    assert all(word in message for word in words), message


def test_part_of_a_second_is_refused_where_no_lengths_are_listed() -> None:
    assert "150 (5 s) is nearest" in refused(openrouter("maker/open"), request(n_frames=160))


def test_images_at_the_first_and_the_last_frame_and_as_references() -> None:
    items = [image(frame_index=0), image(url="https://pictures.example/b.png", frame_index=179), image()]
    asked = request(inpaint_items=items, n_frames=180)
    sent = body(openrouter(), asked)
    assert [each["frame_type"] for each in sent["frame_images"]] == ["first_frame", "last_frame"]
    assert sent["frame_images"][1] == {
        "type": "image_url",
        "image_url": {"url": "https://pictures.example/b.png"},
        "frame_type": "last_frame",
    }
    assert sent["input_references"] == [{"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}}]
    assert any(field == "inpaint_items" and "reference" in told for field, _, told in adjusted(openrouter(), asked))


def test_an_image_that_is_a_file_goes_inside_the_request() -> None:
    asked = request(inpaint_items=[image(url="/pictures/a.png", frame_index=0)])
    sent = openrouter().create(asked, {0: Picture("a.png", b"png", "image/png")}).json or {}
    assert sent["frame_images"][0]["image_url"]["url"] == "data:image/png;base64,cG5n"
    shown = openrouter().create(asked, {0: Picture("/pictures/a.png", b"", "")}).json or {}
    assert shown["frame_images"][0]["image_url"]["url"] == "/pictures/a.png"


@pytest.mark.parametrize(
    ("model", "item", "words"),
    [
        ("maker/sized", {"frame_index": 30}, ("inpaint_items[0].frame_index", "not at 30", "0 or 149")),
        ("maker/shaped", {"frame_index": 149}, ("frame_index", "no image at the last frame", "0 or none")),
        ("maker/text", {"frame_index": 0}, ("frame_index", "no image at the first frame", "as a reference")),
        ("maker/sized", {"url": None, "generation_id": "gen-vid-1"}, ("inpaint_items[0].generation_id", "no videos")),
        ("maker/sized", {"url": None, "upload_media_id": "media_1"}, ("upload_media_id", "no uploads")),
        ("maker/sized", {"preset_id": "x"}, ("preset_id", "leave it out")),
        ("maker/sized", {"source_start_frame": 1}, ("source_start_frame", "no ranges")),
    ],
)
def test_images_that_it_has_no_words_for_are_refused(model: str, item: dict[str, Any], words: tuple[str, ...]) -> None:
    message = refused(openrouter(model), request(inpaint_items=[image(**item)]))
    assert all(word in message for word in words), message


def test_two_images_at_one_frame_are_refused() -> None:
    items = [image(frame_index=0), image(frame_index=0)]
    assert "another image stands at the first frame" in refused(openrouter(), request(inpaint_items=items))


def test_a_storyboard_is_said_in_the_prompt_and_told() -> None:
    dialect, asked = openrouter(), storyboard(0, 60, n_frames=120)
    assert body(dialect, asked)["prompt"] == "fly man\nShot 1 (0.0-2.0 s): beat 0\nShot 2 (2.0-4.0 s): beat 60"
    assert ("actions", "2 beats", "2 timed shots in the prompt") in adjusted(dialect, asked)


def test_a_storyboard_gets_a_length_that_holds_all_of_it() -> None:
    assert body(openrouter(), storyboard(0, 100))["duration"] == 6  # 4 s are nearer to our default, and cut the end
    assert body(openrouter("maker/open"), storyboard(0, 100))["duration"] == 5


def test_beats_that_lie_too_close_are_refused() -> None:
    assert "actions[0].time" in refused(openrouter(), storyboard(0, 10, n_frames=120))


def test_a_remix_goes_on_from_the_job_where_the_model_can() -> None:
    asked = request(operation="remix", sdedit=SDEdit(source_generation_id="gen-vid-1-a"))
    sent = body(openrouter("maker/shaped"), asked)
    assert sent == {"model": "maker/shaped", "prompt": "fly man", "previous_job_id": "gen-vid-1-a"}


def test_a_remix_sends_the_sources_address_where_the_model_watches_videos() -> None:
    dialect, asked = (
        openrouter("maker/watcher"),
        request(operation="remix", sdedit=SDEdit(source_generation_id="gen-1")),
    )
    dialect.check(asked)
    assert [(need.item, need.kind) for need in dialect.plan(asked).needs] == [(None, "address")]
    source = SourceVideo(name="gen-1", address="https://cdn.example/a.mp4?sig=s")
    sent = dialect.create(asked, {}, source).json or {}
    assert sent["input_references"] == [{"type": "video_url", "video_url": {"url": "https://cdn.example/a.mp4?sig=s"}}]
    assert ("source_generation_id", "gen-1", "its address, as a reference") in [
        (each.field, each.asked, each.sent) for each in dialect.plan(asked, source).adjusted
    ]


def test_a_remix_and_a_blend_are_refused_where_the_model_has_neither() -> None:
    remix = request(operation="remix", sdedit=SDEdit(source_generation_id="gen-1"))
    assert "maker/sized has no remix; allowed: model maker/shaped or maker/watcher" in refused(openrouter(), remix)
    items = [InpaintItem(generation_id="a"), InpaintItem(generation_id="b")]
    assert "maker/text has no blend" in refused(
        openrouter("maker/text"), request(operation="blend", inpaint_items=items)
    )


def test_a_blend_is_a_bridge_between_two_frames() -> None:
    items = [InpaintItem(generation_id="gen-1"), InpaintItem(generation_id="gen-2", source_start_frame=9)]
    dialect, asked = openrouter(), request(operation="blend", prompt=None, inpaint_items=items)
    dialect.check(asked)
    assert [(need.item, need.kind, need.frame) for need in dialect.plan(asked).needs] == [
        (0, "frame", None),
        (1, "frame", 9),
    ]
    pictures = {i: Picture(f"{i}.jpg", b"jpg", "image/jpeg") for i in range(2)}
    sent = dialect.create(asked, pictures).json or {}
    assert [each["frame_type"] for each in sent["frame_images"]] == ["first_frame", "last_frame"]
    assert sent["frame_images"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert sent["prompt"]
    assert ("inpaint_items", "a blend") in [each[:2] for each in adjusted(dialect, asked)]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n_variants": 2}, ("n_variants", "1 at a time")),
        ({"model": "turbo"}, ("model", '"turbo"', "maker/sized")),
        ({"model": "maker/shapd"}, ("model", "maker/shaped is nearest")),
        ({"model": "Maker/Sized"}, ("model", "maker/sized is nearest")),
        ({"model": "two words"}, ("model", "is not a model name")),
        ({"model": "maker/upscaler"}, ("model", "enlarges videos")),
        (
            {"operation": "remix", "sdedit": SDEdit(source_generation_id="a", amount=3), "model": "maker/shaped"},
            ("amount", "in the prompt"),
        ),
    ],
)
def test_what_it_has_no_words_for_is_refused_by_name(asked: dict[str, Any], words: tuple[str, ...]) -> None:
    message = refused(openrouter(), request(**asked))
    assert all(word in message for word in words), message


def test_without_a_model_the_listed_ones_are_named() -> None:
    message = refused(openrouter(None), request())
    assert "model: is not named" in message
    assert "maker/sized" in message
    assert "maker/upscaler" not in message


def test_as_long_as_no_list_is_known_nothing_is_held_against_it() -> None:
    dialect = named("openrouter", load({}, model="any/model"))
    dialect.check(request(width=999, height=333))


def test_seed_and_sound_are_settings_and_what_a_model_does_not_take_is_told() -> None:
    sent = body(openrouter(seed=0, generate_audio=False), request())
    assert (sent["seed"], sent["generate_audio"]) == (0, False)
    silent = openrouter("maker/shaped", seed=7, generate_audio=True)
    assert not {"seed", "generate_audio"} & set(body(silent, request()))
    assert [each[0] for each in adjusted(silent, request())] == ["size", "seed", "generate_audio"]
    assert body(openrouter("maker/shaped", generate_audio=False), request())["generate_audio"] is False


def test_requests_that_differ_in_what_is_sent_are_not_the_same() -> None:
    identities = [
        openrouter(**values).plan(request()).identity
        for values in ({}, {"seed": 1}, {"generate_audio": False}, {"model": "maker/open"})
    ]
    assert len({json.dumps(dict(each), sort_keys=True) for each in identities}) == 4


# --- the list of models ---------------------------------------------------------------------------

MALFORMED: list[Any] = [
    None,
    [],
    "text",
    {"data": None},
    {"data": {}},
    {"data": []},
    {"data": [None, 5, {}, {"id": None}, {"id": 7}, {"id": ""}, {"id": "two words"}]},
    {"error": {"code": 500, "message": "no"}},
    b"<html>no</html>",
    b"",
    b"[" * 100_000,
    None,
]


@pytest.mark.parametrize("listed", MALFORMED, ids=lambda value: str(value)[:40])
def test_a_list_that_names_no_model_is_no_list(listed: Any) -> None:
    with pytest.raises(BadReply):
        OpenRouter().read_catalogue(reply(200, listed))


def test_a_list_that_is_too_large_is_said_to_be_that() -> None:
    with pytest.raises(BadReply, match="too large"):
        OpenRouter().read_catalogue(Reply(200, {}, None, fragment=b'{"data": ['))


def test_unknown_values_are_left_out_and_the_rest_is_read() -> None:
    odd = {
        "id": "maker/odd",
        "supported_sizes": ["big", 5, "1280X720", "1280x720"],
        "supported_durations": ["5", 6.0, 7.5, True, None, -1, {"min": 3}],
        "supported_resolutions": "720p",
        "supported_aspect_ratios": {"16:9": True},
        "supported_frame_images": ["first_frame", "middle_frame", 3],
        "generate_audio": "yes",
        "pricing_skus": {"duration_seconds": 0.5, "x": None, "y": ["a"], "z": "0"},
        "brand_new": {"a": [1]},
    }
    (offer,) = openrouter("maker/odd", {"data": [odd]}).capabilities.offers
    assert (offer.sizes, offer.seconds) == (((1280, 720),), (5, 6))
    assert (offer.resolutions, offer.aspect_ratios, offer.audio) == (None, None, None)
    assert offer.prices == {"duration_seconds": "0.5", "z": "0"}


def test_a_request_stays_the_same_when_the_list_changes() -> None:
    """What was sent and not answered must not be paid for again, because a default has become another size."""
    other = SIZED | {"supported_sizes": ["1920x1080"], "supported_resolutions": None, "supported_durations": [8]}
    before, after = openrouter(), openrouter(listed={"data": [other]})
    assert body(before, request()) != body(after, request())
    assert before.plan(request()).identity == after.plan(request()).identity


def test_a_huge_list_is_bounded() -> None:
    long = {"description": "x" * 10_000, "name": "x" * 5000, "supported_sizes": ["1280x720"] * 1000}
    entries = [SIZED | {"id": f"maker/{i}", "pricing_skus": {"x": "y" * 5000}} | long for i in range(2000)]
    text = OpenRouter().read_catalogue(reply(200, {"data": entries}))
    assert len(text) < 2_500_000


def test_what_each_model_takes_is_known_by_its_name() -> None:
    dialect = openrouter()
    assert dialect.capabilities_of(request(model="maker/shaped")).support("remix") == "exact"
    assert dialect.capabilities_of(request()).support("remix") == "impossible"
    assert dialect.capabilities_of(request()).support("blend") == "bridged"
    assert dialect.capabilities_of(request(model="maker/watcher")).support("remix") == "by_reference"
    assert dialect.capabilities_of(request(model="maker/shaped")).support("blend") == "impossible"
    assert (1280, 720) in dialect.capabilities_of(request()).sizes
    assert sorted(dialect.capabilities_of(request()).lengths) == [120, 180, 240]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda each: (
            st.lists(each)
            | st.dictionaries(st.sampled_from([*SIZED, "pricing_skus", "creativity", "name", "data"]), each)
        ),
        max_leaves=30,
    )
)
def test_whatever_a_list_holds_it_is_read_or_refused(entry: Any) -> None:
    for listed in (entry, {"data": entry}, {"data": [entry]}, {"data": [SIZED | {"pricing_skus": entry}]}):
        with suppress(SoraError):
            dialect = openrouter("maker/sized", listed)
            dialect.check(request(model=next(iter(dialect.offers))))
            dialect.create(request(model=next(iter(dialect.offers))))


# --- answers to a create --------------------------------------------------------------------------

JOB = {"id": "gen-vid-1-abc", "polling_url": "https://elsewhere.example/x", "status": "pending"}


def error(code: Any = 400, message: Any = "no", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message} | more, "user_id": "user_1"}


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (202, JOB),
        (200, JOB),
        (202, {"id": "gen-vid-1-abc"}),
        (202, {"id": "gen-vid-1-abc", "status": "brand_new"}),
        (200, {"data": JOB}),
        (400, JOB | {"status": "failed", "error": "no"}),
        (500, JOB | {"status": "failed", "error": {"message": "no"}}),
    ],
)
def test_a_job_with_an_id_is_accepted_whatever_the_status(status: int, content: Any) -> None:
    assert OpenRouter().read_created(reply(status, content)).task_id == "gen-vid-1-abc"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 429])
def test_a_documented_refusal_created_nothing(status: int) -> None:
    with pytest.raises(Refused) as caught:
        OpenRouter().read_created(reply(status, error(status)))
    assert (caught.value.code, caught.value.upstream) == (str(status), "no")
    assert caught.value.may_be_sent_again is (status == 429)
    assert caught.value.can_retry is (status == 429)


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_redirect_that_asks_for_the_same_elsewhere_created_nothing(status: int) -> None:
    with pytest.raises(Refused) as caught:
        OpenRouter().read_created(reply(status, b"<html>", location="https://elsewhere.example"))
    assert f"redirects ({status})" in caught.value.message


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (202, {"status": "pending", "polling_url": "https://openrouter.ai/api/v1/videos/x"}),
        (202, {"id": None, "status": "pending"}),
        (202, {"id": 5, "status": "pending"}),
        (202, b""),
        (202, b"<html>"),
        (200, error(402)),
        (200, JOB | {"status": None, "error": {"code": 400}}),
        (400, {"id": "gen-vid-1-abc", "error": {"code": 400, "message": "no"}}),
        (400, error(502)),
        (400, {"weird": True}),
        (429, None),
        *((status, error(status)) for status in (405, 408, 409, 410, 415, 422, 499, 500, 502, 503, 504, 524)),
        (302, b""),
        (307, JOB | {"id": None}),
        (303, JOB | {"id": None}),
    ],
)
def test_whatever_is_not_listed_leaves_the_outcome_unknown(status: int, content: Any) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        OpenRouter().read_created(reply(status, content, **{"retry-after": "7"}))
    assert (caught.value.may_be_sent_again, caught.value.retry_after_s) == (False, None)


def test_moderation_says_why() -> None:
    metadata = {"reasons": ["violence", "\x1b[31mred"], "flagged_input": "fly man", "provider_name": "Maker"}
    with pytest.raises(Refused) as caught:
        OpenRouter().read_created(reply(403, error(403, "Input was flagged", metadata=metadata)))
    assert caught.value.upstream == "Input was flagged (violence, red)"
    assert any(isinstance(each, Do) and "Moderation" in str(each.sentence) for each in caught.value.advice)


@pytest.mark.parametrize("metadata", [{}, {"metadata": None}, {"metadata": {"buy": 1}}, {"metadata": [1]}])
def test_no_credits_are_told_with_and_without_metadata(metadata: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        OpenRouter().read_created(reply(402, error(402, "Insufficient credits", **metadata)))
    assert caught.value.upstream == "Insufficient credits"
    assert "credits" in str(caught.value.advice)


def test_too_many_requests_are_only_sent_again_where_that_is_said_in_words() -> None:
    with pytest.raises(Refused) as caught:
        OpenRouter().read_created(reply(429, b""))
    assert not caught.value.may_be_sent_again


# --- answers to a query ---------------------------------------------------------------------------

DONE = JOB | {"status": "completed"}
SIGNED = ["https://cdn.example/a.mp4?sig=secret", "https://cdn.example/b.mp4?sig=secret"]
UNSIGNED = [f"https://openrouter.ai/api/v1/videos/gen-vid-1-abc/content?index={i}" for i in range(2)]
OWN = [f"/api/v1/videos/gen-vid-1-abc/content?index={i}" for i in range(2)]


def task(content: Any, status: int = 200) -> Any:
    return OpenRouter().read_task(reply(status, content), "gen-vid-1-abc")


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("pending", "queued"),
        ("in_progress", "running"),
        ("completed", "succeeded"),
        ("failed", "failed"),
        ("cancelled", "failed"),
        ("expired", "failed"),
        ("brand_new", "running"),
        (" Completed ", "succeeded"),
    ],
)
def test_states(word: str, state: str) -> None:
    assert task(JOB | {"status": word}).state == state


@pytest.mark.parametrize(
    ("more", "urls"),
    [
        ({}, OWN[:1]),
        ({"urls": None, "unsigned_urls": None}, OWN[:1]),
        ({"unsigned_urls": UNSIGNED}, OWN),
        ({"unsigned_urls": ["https://evil.example/steal?key"]}, OWN[:1]),
        ({"urls": SIGNED, "unsigned_urls": UNSIGNED, "expires_at": 2000}, SIGNED),
        ({"urls": SIGNED, "expires_at": 999}, OWN),
        ({"urls": SIGNED[:1], "unsigned_urls": UNSIGNED}, [SIGNED[0], OWN[1]]),
        ({"urls": ["ftp://x/y", 5], "unsigned_urls": UNSIGNED}, OWN),
        ({"urls": ["javascript:alert(1)"]}, OWN[:1]),
        ({"urls": "https://cdn.example/a.mp4"}, OWN[:1]),
    ],
)
def test_outputs_are_variants_at_signed_addresses_or_our_own(more: dict[str, Any], urls: list[str]) -> None:
    generations = task(DONE | more).generations
    assert [(each.variant, each.url) for each in generations] == list(enumerate(urls, 1))


@pytest.mark.parametrize(
    ("more", "reason", "message", "code"),
    [
        ({"status": "failed", "error": "no faces"}, "no faces", "no faces", None),
        ({"status": "failed", "error": {"code": 403, "message": "no faces"}}, "no faces", "no faces", "403"),
        ({"status": "failed", "error": None}, None, None, None),
        ({"status": "cancelled"}, "the gateway says that it was cancelled", None, None),
        ({"status": "expired", "error": "too late"}, "too late", "too late", None),
    ],
)
def test_why_there_is_no_video(more: dict[str, Any], reason: str, message: str, code: str) -> None:
    read = task(JOB | more)
    assert (read.failure_reason, read.gateway_message, read.failure_code) == (reason, message, code)


def test_a_failed_job_may_answer_500() -> None:
    assert task(JOB | {"status": "failed", "error": "no"}, 500).state == "failed"


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (404, error(404), NotFound),
        (404, b"", NotFound),
        (404, b"<html>", BadReply),
        (200, {"id": "gen-vid-1-abc"}, BadReply),
        (200, b"<html>", BadReply),
        (200, [], BadReply),
        (429, error(429), BadReply),
        (503, error(503), BadReply),
        (401, error(401), Refused),
        (403, error(403), Refused),
    ],
)
def test_what_is_no_job(status: int, content: Any, kind: type[SoraError]) -> None:
    with pytest.raises(kind):
        task(content, status)


def test_a_job_is_asked_about_at_our_own_address_by_its_whole_id() -> None:
    assert OpenRouter().query("gen-vid/../x?y").path == "/api/v1/videos/gen-vid%2F..%2Fx%3Fy"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda each: (
            st.lists(each)
            | st.dictionaries(
                st.sampled_from(["id", "status", "error", "urls", "unsigned_urls", "expires_at", "data", "metadata"]),
                each,
            )
        ),
        max_leaves=20,
    ),
    st.sampled_from([200, 202, 400, 403, 404, 429, 500]),
)
def test_whatever_an_answer_holds_its_readers_raise_nothing_but_errors_of_ours(content: Any, status: int) -> None:
    for read in (OpenRouter().read_created, lambda each: OpenRouter().read_task(each, "x")):
        with suppress(SoraError):
            read(reply(status, content))
