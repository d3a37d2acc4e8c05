"""How the gateway's answers are read: what a create's answer means, every shape of a task, nothing that crashes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace
from wording import next_step

from sora_mcp.core.errors import BadReply, GatewayError, OutcomeUnknown, Refused, SoraError
from sora_mcp.core.ids import is_id, path_segment
from sora_mcp.core.models import SDEdit, VideoRequest
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.protocol import Created
from sora_mcp.dialects.replies import Reply
from sora_mcp.dialects.sora import Sora, read_created, read_models, read_task, read_uploaded
from sora_mcp.dialects.sora.body import body

URL = "https://cdn.example/v.mp4"
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def reply(status: int, content: Any = None, **headers: str) -> Reply:
    """An answer; bytes (and None) as they are, anything else as JSON; `retry_after` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, named, content if isinstance(content, bytes | None) else json.dumps(content).encode())


def task_error(code: object, message: str = "", data: Any = None) -> dict[str, Any]:
    return {"code": code, "message": message, "data": data}


def auth_error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "new_api_error"}}


# --- what is sent ---------------------------------------------------------------------------------


def test_the_paths_are_those_of_the_pages() -> None:
    request = VideoRequest(operation="simple_compose", prompt="fly man")
    create, models, upload = Sora().create(request), Sora().models(), Sora().upload("a.png", b"png")
    assert (create.method, create.path, create.json) == ("POST", "/sora/v1/videos", request.body())
    assert (models.method, models.path) == ("GET", "/v1/models")
    assert (upload.method, upload.path, upload.files) == ("POST", "/v1/files", {"file": ("a.png", b"png")})


@pytest.mark.parametrize(
    ("task_id", "path"),
    [("task_1", "/sora/v1/videos/task_1"), ("a/b?c#d%2e+é", "/sora/v1/videos/a%2Fb%3Fc%23d%252e%2B%C3%A9")],
)
def test_an_id_is_one_segment_of_the_path(task_id: str, path: str) -> None:
    assert (Sora().query(task_id).method, Sora().query(task_id).path) == ("GET", path)


NO_IDS = [
    "",
    ".",
    "..",
    "../x",
    "a/../b",
    "a\\..",
    "a b",
    "a\n",
    "a\u200b",
    "a\u202eb",
    "\ud800",
    "a\u3000b",
    "a" * 301,
]


@pytest.mark.parametrize("text", NO_IDS, ids=ascii)
def test_what_could_lead_elsewhere_or_cannot_be_seen_is_no_id(text: str) -> None:
    assert not is_id(text)


@pytest.mark.parametrize("text", ["a", "17", "a:b+c=d/e", "a?b", "a#2", "é", "-a", "a" * 300, "%2e", "req_1", "gen_1"])
def test_everything_else_that_can_be_read_is_an_id(text: str) -> None:
    assert is_id(text)
    assert "/" not in path_segment(text)


def test_a_remix_can_name_its_source_inside_or_beside_sdedit() -> None:
    source = SDEdit(amount=3, source_generation_id="gen_1")
    request = VideoRequest(operation="remix", prompt="x", sdedit=source)
    assert body(request)["sdedit"] == {"amount": 3.0, "source_generation_id": "gen_1"}
    beside = body(request, "top")
    assert (beside["sdedit"], beside["source_generation_id"]) == ({"amount": 3.0}, "gen_1")
    bare = body(request.model_copy(update={"sdedit": SDEdit(source_upload_media_id="media_1")}), "top")
    assert "sdedit" not in bare
    assert bare["source_upload_media_id"] == "media_1"


# --- what an answer to a create means -------------------------------------------------------------

ACCEPTED = [
    {"code": "success", "message": "", "data": "task_1"},
    {"code": "success", "data": {"task_id": "task_1"}},
    {"code": "success", "data": {"id": "task_1"}},
    {"code": "success", "data": None, "task_id": "task_1"},
    {"data": "task_1"},
    {"data": {"task_id": "task_1", "status": "queued"}},
    {"task_id": "task_1"},
    {"id": "task_1", "object": "video", "status": "queued"},
    {"code": 0, "data": "task_1"},
    {"code": 200, "data": "task_1"},
    {"code": "", "data": "task_1"},
    {"code": None, "data": "task_1"},
    {"code": "SUCCESS", "data": "task_1"},
    {"code": "Success", "data": {"task_id": "task_1"}},
    {"success": True, "error": None, "data": "task_1"},
    {"error": "", "id": "task_1"},
]


@pytest.mark.parametrize("content", ACCEPTED, ids=json.dumps)
def test_a_success_with_an_id_is_accepted(content: dict[str, Any]) -> None:
    assert read_created(reply(200, content)) == Created("task_1")


@pytest.mark.parametrize("task_id", ["task_1", "01jhjnz502ejqsm6", "0b8f1f0e-6a0e-4c43-9d4d-2d2f6f1f8b11"])
def test_a_bare_text_is_accepted_where_it_looks_like_an_id(task_id: str) -> None:
    assert read_created(reply(200, {"code": "success", "data": task_id})) == Created(task_id)


@pytest.mark.parametrize("content", ACCEPTED, ids=json.dumps)
@pytest.mark.parametrize("status", [302, 400, 429, 500, 503, 504])
def test_an_id_in_an_error_is_not_accepted(content: dict[str, Any], status: int) -> None:
    with pytest.raises((Refused, OutcomeUnknown)):
        read_created(reply(status, content))


@pytest.mark.parametrize("data", ["task_1", {"task_id": "task_1"}], ids=json.dumps)
def test_a_no_that_names_a_task_leaves_the_outcome_unknown(data: Any) -> None:
    with pytest.raises(OutcomeUnknown):
        read_created(reply(200, {"code": "invalid_request", "message": "", "data": data}))


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 429])
@pytest.mark.parametrize("content", [None, b"", HTML, {}, task_error("invalid_request"), auth_error("no")], ids=str)
def test_a_no_by_status_created_nothing(status: int, content: Any) -> None:
    with pytest.raises(Refused) as caught:
        read_created(reply(status, content))
    assert (caught.value.outcome, caught.value.http_status) == ("rejected", status)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (403, task_error("quota_not_enough")),
        (400, task_error("task_not_exist")),
        (400, task_error("invalid_request")),
        (400, task_error("channel_not_found")),
        (400, task_error("fail_to_fetch_task")),
        (500, task_error("build_request_failed")),
        (503, auth_error("no available channel (request id: 1)")),
        (200, task_error("quota_not_enough")),
        (200, task_error("build_request_failed")),
    ],
    ids=str,
)
def test_a_no_by_code_or_shape_created_nothing(status: int, content: Any) -> None:
    with pytest.raises(Refused):
        read_created(reply(status, content))


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (408, None),
        (408, auth_error("slow")),
        (409, {}),
        (500, None),
        (500, auth_error("panic")),
        (502, HTML),
        (503, HTML),
        (503, {}),
        (503, {"error": "busy"}),
        (504, HTML),
        (520, b""),
        (500, task_error("do_request_failed")),
        (500, task_error("insert_task_failed")),
        (400, task_error("insert_task_failed")),
        (502, task_error("fail_to_fetch_task", "upstream")),
        (500, task_error("something_new")),
        (200, None),
        (200, b""),
        (200, b"null"),
        (200, b'"task_1"'),
        (200, HTML),
        (200, {}),
        (200, []),
        (200, ["task_1"]),
        (200, b'{"code":"success","data":"task_'),
        (200, task_error("success")),
        (200, task_error("success", data="")),
        (200, task_error("success", data="two words")),
        (200, task_error("success", data="../../v1/models")),
        (200, task_error("success", data={})),
        (200, task_error("something_new", data="task_1")),
        (200, task_error("insert_task_failed", data="task_1")),
        (200, task_error("do_request_failed")),
        (200, task_error("fail_to_fetch_task")),
        (200, task_error(1, data="task_1")),
        (200, task_error({"deep": 1}, data="task_1")),
        (200, auth_error("no")),
        (200, auth_error("insufficient balance") | {"id": "chatcmpl-1"}),
        (200, auth_error("no") | {"data": "task_1"}),
        (200, {"error": "no", "task_id": "task_1"}),
        (200, {"error": {}, "task_id": "task_1"}),
        (200, {"success": False, "message": "no", "id": "abc"}),
        (200, {"success": False, "data": {"task_id": "task_1"}}),
        (200, task_error("success", data="ok")),
        (200, task_error("success", data="queued")),
        (503, {"error": {"message": "overloaded", "type": "server_error"}}),
        (503, {"error": {"message": "x", "type": "new_api_error", "code": "do_request_failed"}}),
        (429, {"error": {"message": "x", "type": "new_api_error", "code": "insert_task_failed"}}),
    ],
    ids=str,
)
def test_everything_else_leaves_the_outcome_unknown(status: int, content: Any) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        read_created(reply(status, content))
    assert caught.value.outcome == "unknown"
    assert not caught.value.can_retry
    assert "own log" in next_step(caught.value)


# --- what an error says ---------------------------------------------------------------------------


def refusal(answer: Reply) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read_created(answer)
    return caught.value


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (task_error("invalid_request", "prompt is empty"), "prompt is empty"),
        (auth_error("Invalid token (request id: 7)"), "Invalid token (request id: 7)"),
        ({"error": "just text"}, "just text"),
        (task_error("x", "a\u202eb\x1b[31m\nc"), "ab c"),
        (HTML, ""),
        ({"error": {"message": {"deep": 1}}}, ""),
    ],
    ids=str,
)
def test_both_error_shapes_are_quoted_and_cleaned(content: Any, shown: str) -> None:
    error = refusal(reply(400, content))
    assert error.upstream == shown
    if shown:
        assert shown not in error.message + next_step(error)


def test_the_gateways_text_is_capped() -> None:
    assert len(refusal(reply(400, task_error("x", "a" * 5000))).upstream) == 300


def test_a_hostile_code_is_cleaned_and_capped() -> None:
    error = refusal(reply(400, task_error("\x1b[31m\u202e" + "x" * 1000)))
    assert clean(error.message, 200) == error.message


@pytest.mark.parametrize(
    ("status", "content", "advice"),
    [
        (401, auth_error("x"), "SORA_API_KEY"),
        (403, task_error("quota_not_enough"), "top up"),
        (402, None, "top up"),
        (404, HTML, "SORA_BASE_URL"),
        (429, None, "later"),
    ],
)
def test_a_refusal_says_what_to_do_next(status: int, content: Any, advice: str) -> None:
    assert advice in next_step(refusal(reply(status, content)))


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://new.example/sora/v1/videos", "https://new.example."),
        ("https://new.example/api/sora/v1/videos?x=1", "https://new.example/api."),
        ("https://new.example", "https://new.example."),
        ("https://new.example/", "https://new.example."),
        ("https://new.example/login", "https://new.example/login."),
    ],
)
def test_a_redirect_names_the_address_to_set(location: str, named: str) -> None:
    error = refusal(replace(reply(307, None, location=location), url="http://new.example/sora/v1/videos"))
    assert error.message == f"The gateway redirects (307) to {named}"
    assert "set SORA_BASE_URL to that address" in next_step(error)


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        ("https://gateway.example/sora/v1/videos", "https://new.example"),
        ("https://gateway.example/sora/v1/videos", "https://gateway.example.new.example"),
        ("https://gateway.example/sora/v1/videos", "https://new.gateway.example"),
        ("https://gateway.example/sora/v1/videos", "http://gateway.example"),
        ("https://gateway.example/sora/v1/videos", "https://[gateway.example"),
        ("", "https://new.example"),
    ],
)
def test_a_redirect_to_another_host_is_told_and_never_advised(asked: str, location: str) -> None:
    error = refusal(replace(reply(307, None, location=location), url=asked))
    assert error.message == f'The gateway redirects (307) to "{location}".'
    assert "check SORA_BASE_URL" in next_step(error)
    assert "that address" not in next_step(error)


@pytest.mark.parametrize("location", ["/login", "https://user:secret@new.example/", "javascript:1", "https:// a"])
def test_a_redirect_to_no_address_that_can_be_set_advises_none(location: str) -> None:
    error = refusal(reply(307, None, location=location))
    assert error.message == "The gateway redirects (307) to another address."
    assert "check SORA_BASE_URL" in next_step(error)
    assert "that address" not in next_step(error)


@pytest.mark.parametrize(("status", "headers"), [(304, {"location": URL}), (304, {}), (300, {}), (302, {}), (308, {})])
def test_a_redirect_without_a_place_advises_no_address(status: int, headers: dict[str, str]) -> None:
    error = refusal(reply(status, None, **headers))
    assert error.message == f"The gateway refused the request (status {status})."
    assert "check SORA_BASE_URL" in next_step(error)
    assert "that address" not in next_step(error)


def test_a_redirected_query_names_the_address_too() -> None:
    with pytest.raises(Refused, match=r'to "https://new\.example"\.$'):
        read_task(reply(301, None, location="https://new.example/sora/v1/videos/task_1"), "task_1")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 120.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("86400", 86400.0),
        ("86401", None),
        ("99999999999999", None),
        ("Fri, 02 Jan 1970 00:00:00 GMT", 86400.0),
        ("Fri, 02 Jan 1970 00:00:01 GMT", None),
        ("Wed, 01 Jan 2070 00:00:00 GMT", None),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert refusal(reply(429, None, retry_after=header)).retry_after_s == seconds
    assert refusal(Reply(429, {"Retry-After": header}, None)).retry_after_s == seconds


def test_a_date_in_retry_after_counts_from_now() -> None:
    answer = Reply(429, {"Retry-After": "Thu, 01 Jan 1970 00:02:00 GMT"}, None, now=100.0)
    assert refusal(answer).retry_after_s == 20.0


# --- files and models -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201])
def test_an_upload_gives_its_public_address(status: int) -> None:
    assert read_uploaded(reply(status, {"id": "file_1", "object": "file", "bytes": 3, "url": URL})) == URL


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (200, {}, BadReply),
        (200, {"url": "file:///x"}, BadReply),
        (200, {"url": ""}, BadReply),
        (200, {"url": f"https://cdn.example/{'x' * 4096}"}, BadReply),
        (200, HTML, BadReply),
        (502, HTML, BadReply),
        (401, auth_error("no"), Refused),
        (413, HTML, Refused),
    ],
)
def test_an_upload_without_an_address_is_an_error(status: int, content: Any, kind: type[SoraError]) -> None:
    with pytest.raises(kind):
        read_uploaded(reply(status, content))


def test_the_models_are_listed_by_id() -> None:
    listed = {
        "object": "list",
        "data": [{"id": "sora"}, {"id": "a\x1b[31mb"}, {"name": "x"}, None, {"id": "b"}, {"id": "sora"}],
    }
    assert read_models(reply(200, listed)) == ["sora", "b"]


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [(200, {}, BadReply), (200, HTML, BadReply), (503, None, BadReply), (401, auth_error("no"), Refused)],
)
def test_models_that_cannot_be_listed_are_an_error(status: int, content: Any, kind: type[SoraError]) -> None:
    with pytest.raises(kind):
        read_models(reply(status, content))
