"""How a query's answer is read: every state, every place an address stands in, and answers that cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sora_mcp.core.errors import BadReply, NotFound, Refused
from sora_mcp.core.tasks import Task, clean
from sora_mcp.dialects.replies import Reply
from sora_mcp.dialects.sora import read_task

URL = "https://cdn.example/v.mp4"
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def reply(status: int, content: Any = None) -> Reply:
    return Reply(status, {}, content if isinstance(content, bytes | None) else json.dumps(content).encode())


def task_error(code: str, data: Any = None) -> dict[str, Any]:
    return {"code": code, "message": "", "data": data}


def auth_error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "new_api_error"}}


# --- the state of a task --------------------------------------------------------------------------


def task(raw: Any = None, **fields: Any) -> Task:
    """A successful query's task with `raw` as its inner `data`."""
    data = {"task_id": "task_1", "status": "SUCCESS", "fail_reason": "", "data": raw} | fields
    return read_task(reply(200, {"code": "success", "message": "", "data": data}), "task_1")


def urls(read: Task) -> list[str | None]:
    return [generation.url for generation in read.generations]


def test_the_pages_example_is_read() -> None:
    read = task(
        {"actions": {"0": "A man with insect-like features"}},
        notify_hook="",
        action="sora-video",
        submit_time=1736867805,
        start_time=0,
        finish_time=1736867860,
        progress="100%",
    )
    assert (read.state, read.progress, read.created_at) == ("succeeded", 100, 1736867805)
    assert read.enhanced_prompt == "A man with insect-like features"
    assert (read.failure_reason, read.generations) == (None, ())


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("NOT_START", "queued"),
        ("SUBMITTED", "queued"),
        ("QUEUED", "queued"),
        ("IN_PROGRESS", "running"),
        ("RUNNING", "running"),
        ("PROCESSING", "running"),
        ("SUCCESS", "succeeded"),
        ("SUCCEEDED", "succeeded"),
        ("COMPLETED", "succeeded"),
        ("FAILURE", "failed"),
        ("FAILED", "failed"),
        ("CANCELLED", "failed"),
        ("0", "queued"),
        ("1", "running"),
        ("2", "failed"),
        ("3", "succeeded"),
    ],
)
def test_every_known_state_is_read(status: str, state: str, *, lower: bool) -> None:
    assert task(status=status.lower() if lower else status).state == state


@pytest.mark.parametrize(("status", "state"), [(0, "queued"), (1, "running"), (2, "failed"), (3, "succeeded")])
def test_a_state_may_be_a_number(status: int, state: str) -> None:
    assert task(status=status).state == state


@pytest.mark.parametrize("status", ["WARMING_UP", "-2", 9, True, 7.5, 10**30])
def test_an_unknown_state_keeps_polling_and_is_shown(status: object) -> None:
    read = task(status=status)
    assert read.state == "running"
    assert read.gateway_state == clean(str(status), 40)


@pytest.mark.parametrize("status", ["", None, [], {}, [1], {"a": 1}])
def test_a_state_that_is_no_word_keeps_polling(status: object) -> None:
    read = task(status=status)
    assert (read.state, read.gateway_state) == ("running", "")


@pytest.mark.parametrize(("status", "state"), [("FAILURE", "failed"), ("IN_PROGRESS", "running"), ("NEW", "running")])
def test_progress_never_decides_a_state(status: str, state: str) -> None:
    read = task(status=status, progress="100%")
    assert (read.state, read.progress) == (state, 100)


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        ("30%", 30),
        (" 7.5 % ", 7),
        ("0", 0),
        (55, 55),
        (55.9, 55),
        ("250%", 100),
        ("", None),
        ("half", None),
        (-1, None),
        (101, None),
        (True, None),
        (None, None),
        ([], None),
        (float("nan"), None),
    ],
)
def test_progress_is_read_from_text_or_number(progress: object, shown: int) -> None:
    assert task(status="IN_PROGRESS", progress=progress).progress == shown


@pytest.mark.parametrize("progress", ["", "half", -1, 101, True, None, [], float("nan")])
def test_progress_that_makes_no_sense_is_left_out(progress: object) -> None:
    assert task(status="IN_PROGRESS", progress=progress).progress is None


def test_progress_may_stand_in_the_raw_task() -> None:
    assert task({"progress_pct": 0.42}, status="IN_PROGRESS").progress == 42


# --- the video's address --------------------------------------------------------------------------

PLACES: list[tuple[str, dict[str, Any]]] = [
    ("generation", {"raw": {"generations": [{"url": "https://cdn.example/generation"}]}}),
    ("source", {"raw": {"generations": [{"encodings": {"source": {"path": "https://cdn.example/source"}}}]}}),
    ("md", {"raw": {"generations": [{"encodings": {"md": {"path": "https://cdn.example/md"}}}]}}),
    ("ld", {"raw": {"generations": [{"encodings": {"ld": {"path": "https://cdn.example/ld"}}}]}}),
    ("raw-video_url", {"raw": {"video_url": "https://cdn.example/raw-video_url"}}),
    ("raw-url", {"raw": {"url": "https://cdn.example/raw-url"}}),
    ("output", {"raw": {"output": "https://cdn.example/output"}}),
    ("outputs", {"raw": {"outputs": ["https://cdn.example/outputs"]}}),
    ("result_url", {"result_url": "https://cdn.example/result_url"}),
    ("video_url", {"video_url": "https://cdn.example/video_url"}),
    ("fail_reason", {"fail_reason": "https://cdn.example/fail_reason"}),
]
"""Most trusted first."""


def merged(places: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """One task that holds an address in each of `places`."""
    generation: dict[str, Any] = {"encodings": {}}
    raw: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for name, place in places:
        inner = place.get("raw", {})
        for each in inner.get("generations", []):
            generation["encodings"] |= each.get("encodings", {})
            generation |= {k: v for k, v in each.items() if k != "encodings"}
            raw["generations"] = [generation]
        raw |= {k: v for k, v in inner.items() if k != "generations"}
        fields |= {k: v for k, v in place.items() if k == name}
    return fields | {"raw": raw}


@pytest.mark.parametrize("first", range(len(PLACES)), ids=[name for name, _ in PLACES])
def test_the_most_trusted_address_is_taken(first: int) -> None:
    assert urls(task(**PLACES[first][1])) == [f"https://cdn.example/{PLACES[first][0]}"]
    assert urls(task(**merged(PLACES[first:]))) == [f"https://cdn.example/{PLACES[first][0]}"]


def test_a_url_in_fail_reason_on_success_is_the_video() -> None:
    read = task(fail_reason=URL)
    assert (read.state, urls(read), read.failure_reason) == ("succeeded", [URL], None)


@pytest.mark.parametrize("status", ["FAILURE", "IN_PROGRESS", "WHATEVER"])
def test_a_url_in_fail_reason_is_a_video_only_on_success(status: str) -> None:
    assert task(status=status, fail_reason=URL).generations == ()


NO_ADDRESSES: list[object] = [
    *(
        "javascript:alert(1)",
        "ftp://a.example/v",
        "v.mp4",
        "",
        "https://",
        "https:///v",
        "https://a b/v",
        "//",
        "// a/v",
    ),
    *("https://a.example/\x1b[31m", "https://a.example/\u202e", "https://a.example/\ud800", "https://a.example/v\nw"),
    *(17, None, {}, []),
]


@pytest.mark.parametrize("address", NO_ADDRESSES, ids=repr)
def test_what_is_no_http_address_is_no_video(address: object) -> None:
    assert urls(task({"url": address}, fail_reason=address, result_url=address)) == []
    assert urls(task({"generations": [{"url": address}]})) == [None]


def test_an_address_longer_than_4096_characters_is_none() -> None:
    longest = "https://cdn.example/".ljust(4096, "x")
    assert urls(task({"url": longest})) == [longest]
    assert urls(task({"url": longest + "x"}, result_url=URL)) == [URL]


def test_at_most_sixteen_variants_are_kept() -> None:
    many = [f"https://cdn.example/{i}" for i in range(1, 1000)]
    assert urls(task({"generations": [{"url": url} for url in many]})) == many[:16]
    assert urls(task({"outputs": many})) == many[:16]
    assert len(task({"generations": [{"id": "gen_1"}] * 1000, "outputs": many}).generations) == 16


FILE = "file:///home/me/secret.mp4"


def test_addresses_are_of_the_web_unless_more_is_opened() -> None:
    assert urls(task({"generations": [{"url": FILE, "encodings": {"md": {"path": URL}}}]})) == [URL]
    assert urls(task({"url": FILE}, result_url=URL)) == [URL]
    assert urls(task({"url": FILE})) == []


def test_addresses_are_those_that_the_connection_opens() -> None:
    schemes = frozenset({"http", "https", "file"})
    data = {"status": "SUCCESS", "data": {"generations": [{"url": FILE, "encodings": {"md": {"path": URL}}}]}}
    assert urls(read_task(reply(200, {"code": "success", "data": data}), "task_1", schemes=schemes)) == [FILE]


def test_variants_are_counted_in_the_order_of_the_reply() -> None:
    sizes = {"width": 854, "height": 480, "n_frames": 150}
    entries = [{"id": "gen_a", "url": URL, **sizes}, {"id": "gen_b", "encodings": {"md": {"path": URL + "?2"}}}]
    first, second = task({"generations": entries}).generations
    assert (first.variant, first.generation_id, first.url, first.width, first.n_frames) == (1, "gen_a", URL, 854, 150)
    assert (second.variant, second.generation_id, second.url, second.width) == (2, "gen_b", URL + "?2", None)


def test_a_generation_without_an_address_gets_the_one_beside_it() -> None:
    (generation,) = task({"generations": [{"id": "gen_a"}]}, result_url=URL).generations
    assert (generation.generation_id, generation.url) == ("gen_a", URL)


def test_several_outputs_are_several_variants() -> None:
    read = task({"outputs": [URL, URL + "?2", URL]})
    assert [(g.variant, g.url) for g in read.generations] == [(1, URL), (2, URL + "?2")]


# --- the inner data and failures ------------------------------------------------------------------


@pytest.mark.parametrize("inner", [None, "", "null", "not json", "[]", [], {}, [None], 7, True, "[" * 100_000])
def test_a_task_without_usable_inner_data_is_still_a_task(inner: object) -> None:
    read = task(inner, result_url=URL)
    assert (read.state, urls(read), read.body) == ("succeeded", [URL], None)


@pytest.mark.parametrize("wrap", [lambda raw: raw, lambda raw: [raw], json.dumps, lambda raw: json.dumps([raw])])
def test_the_inner_data_may_be_an_object_a_list_or_json_text(wrap: Any) -> None:
    raw = {"prompt": "fly man", "width": 854, "height": 480.5, "generations": [{"id": "gen_1", "url": URL}]}
    read = task(wrap(raw))
    assert urls(read) == [URL]
    assert read.body == {"prompt": "fly man", "width": 854}


def test_success_may_be_written_in_capitals() -> None:
    assert read_task(reply(200, {"code": "SUCCESS", "data": {"status": "QUEUED"}}), "task_1").state == "queued"


def test_a_task_may_stand_at_the_root() -> None:
    assert read_task(reply(200, {"id": "task_1", "status": "queued"}), "task_1").state == "queued"


def test_a_storyboards_beats_are_no_enhanced_prompt() -> None:
    assert task({"actions": {"0": "dawn", "60": "noon"}}).enhanced_prompt is None
    assert task({"actions": {"16": "dawn"}}).enhanced_prompt is None


@pytest.mark.parametrize(
    "raw",
    [{"num_unsafe_generations": 1}, {"moderation_result": {"type": "x", "is_output_rejection": True}}],
    ids=str,
)
def test_a_success_without_a_video_may_be_blocked_by_moderation(raw: dict[str, Any]) -> None:
    assert task(raw).state == "blocked"
    assert task(raw, result_url=URL).state == "succeeded"
    assert task(raw, status="IN_PROGRESS").state == "running"


def test_a_success_without_a_video_is_not_blocked_by_itself() -> None:
    assert task({"num_unsafe_generations": 0, "moderation_result": {"is_output_rejection": False}}).state == "succeeded"


def test_a_failure_says_why() -> None:
    assert task(status="FAILURE", fail_reason="too\nlong\x1b[0m").failure_reason == "too long"
    assert task({"failure_reason": "bad prompt"}, status="FAILURE").failure_reason == "bad prompt"
    assert task(status="FAILURE", fail_reason="").failure_reason is None


def test_what_a_reply_repeats_can_be_kept() -> None:
    """The ledger stores text as UTF-8 and numbers in 64 bits."""
    read = task(
        {"prompt": "half \ud800", "width": 10**30, "generations": [{"url": URL, "width": 10**30}]}, submit_time=10**30
    )
    assert (read.body, read.created_at, read.generations[0].width) == ({"prompt": "half"}, None, None)


# --- queries that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_a_task_that_does_not_exist_is_not_found(status: int) -> None:
    with pytest.raises(NotFound, match="task_1"):
        read_task(reply(status, task_error("task_not_exist")), "task_1")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
def test_a_query_that_is_refused_will_be_refused_again(status: int) -> None:
    with pytest.raises(Refused):
        read_task(reply(status, auth_error("no")), "task_1")


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (408, None),
        (429, auth_error("slow down")),
        (500, None),
        (502, HTML),
        (503, auth_error("no channel")),
        (200, None),
        (200, HTML),
        (200, {}),
        (200, []),
        (200, task_error("success")),
        (200, task_error("success", data="task_1")),
        (200, task_error("get_task_failed", data={"status": "SUCCESS"})),
    ],
    ids=str,
)
def test_a_query_that_cannot_be_read_may_be_repeated(status: int, content: Any) -> None:
    with pytest.raises(BadReply) as caught:
        read_task(reply(status, content), "task_1")
    assert caught.value.can_retry


def test_a_repeated_field_of_another_type_is_left_out() -> None:
    raw = {"prompt": 5, "operation": 7, "width": "480", "height": 480, "n_frames": True}
    assert task(raw, status="SUCCESS").body == {"height": 480}


def test_what_a_task_of_elsewhere_was_made_from_is_read() -> None:
    raw = {
        "operation": "storyboard",
        "actions": {"75": "it opens", "0": "a door", "x": "no frame", "9": 7},
        "sdedit": {"amount": 3, "source_generation_id": "gen_1", "odd": [1], "null": None, "yes": True},
        "inpaint_items": [{"generation_id": "gen_2", "source_start_frame": 30, "more": {}}, "text", None],
    }
    assert task(raw, status="SUCCESS").body == {
        "operation": "storyboard",
        "actions": [{"time": 0, "description": "a door"}, {"time": 75, "description": "it opens"}],
        "sdedit": {"amount": 3, "source_generation_id": "gen_1"},
        "inpaint_items": [{"generation_id": "gen_2", "source_start_frame": 30}],
    }
    assert task(raw | {"operation": "simple_compose"}, status="SUCCESS").body is not None
    assert "actions" not in (task(raw | {"operation": "simple_compose"}, status="SUCCESS").body or {})
