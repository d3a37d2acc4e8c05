"""Whatever a gateway answers: nothing crashes a reader, and nothing is taken for a refusal that no source lists."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st
from wording import next_step

from sora_mcp.core.errors import GatewayError, NotFound, OutcomeUnknown, Refused, SoraError
from sora_mcp.core.ids import is_id
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.replies import Reply
from sora_mcp.dialects.sora import MAX_GENERATIONS, read_created, read_models, read_task, read_uploaded

URL = "https://cdn.example/v.mp4"

KEYS = [
    *("code", "message", "data", "error", "task_id", "id", "status", "state", "progress", "fail_reason", "url"),
    *("generations", "encodings", "source", "path", "outputs", "output", "video_url", "result_url", "submit_time"),
    *("actions", "0", "moderation_result", "num_unsafe_generations", "progress_pct", "prompt", "width", "n_frames"),
    *("taskId", "job_id", "request_id", "output", "result", "resultJson", "type", "msg", "detail", "success", "object"),
]
WORDS = [
    *("success", "task_1", "SUCCESS", "FAILURE", "IN_PROGRESS", "quota_not_enough", "task_not_exist", "100%", URL),
    *("insufficient_quota", "billing_hard_limit", "error", "failed", "done", "ok", "video", "402", '{"task_id":"a"}'),
    *("build_request_failed", "do_request_failed", "insert_task_failed", "fail_to_fetch_task", "{}", '[{"url":1}]'),
]
keys = st.sampled_from(KEYS) | st.text(st.characters(), max_size=5)
numbers = st.sampled_from([0, 1, 200, 400, 402, 408, 429, 500, 503])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | numbers
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(st.characters())
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6), max_leaves=30
)
envelopes = st.fixed_dictionaries(
    {"code": st.just("success") | numbers | scalars, "data": st.dictionaries(keys, documents, max_size=8) | documents}
)
contents = st.none() | st.binary() | (documents | envelopes).map(lambda each: json.dumps(each).encode())
headers = st.dictionaries(st.sampled_from(["Retry-After", "location", "x"]), st.text(st.characters(), max_size=40))
replies = st.builds(
    Reply,
    status=st.just(200) | st.sampled_from([201, 400, 403, 408, 409, 429, 500, 502, 503]) | st.integers(200, 599),
    headers=headers,
    content=contents,
    fragment=st.just(b"") | st.binary(max_size=300),
    now=st.floats(0, 1e10),
)


def assert_said_well(error: GatewayError | NotFound) -> None:
    for text in (error.message, next_step(error), error.upstream, error.answer, error.code):
        assert clean(text, 600) == text


@given(answer=replies)
@example(Reply(200, {}, b'{"data":' * 900 + b"1" + b"}" * 900))
@example(Reply(200, {}, b"[" * 100_000))
@example(Reply(200, {}, b'{"code":' + b"[" * 900 + b"]" * 900 + b"}"))
@example(Reply(200, {}, b'{"data":{"status":' + b"[" * 800 + b"]" * 800 + b"}}"))
@example(Reply(200, {}, b'{"data":[{"id":' + b"[" * 800 + b"]" * 800 + b"}]}"))
@example(Reply(200, {}, b'{"data":{"submit_time":' + b"9" * 5000 + b"}}"))
def test_no_answer_makes_a_free_request_crash(answer: Reply) -> None:
    for read in (lambda it: read_task(it, "task_1"), read_uploaded, read_models):
        try:
            read(answer)
        except (GatewayError, NotFound) as error:
            assert_said_well(error)


@given(answer=replies)
@example(Reply(200, {}, b'{"code":' + b"[" * 900 + b"]" * 900 + b"}"))
@example(Reply(200, {}, b"[" * 100_000))
def test_an_answer_to_a_create_is_accepted_refused_or_unknown_and_never_wishful(answer: Reply) -> None:
    try:
        created = read_created(answer)
    except OutcomeUnknown as error:
        assert_said_well(error)
    except Refused as error:
        assert_said_well(error)
        assert is_documented_refusal(answer)
    else:
        assert 200 <= answer.status < 300
        assert all(map(is_id, [created.task_id, *created.other_ids]))


REFUSED = {400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 429}
QUOTA = {"insufficient_quota", "insufficient_user_quota", "billing_hard_limit"}
NO = {"quota_not_enough", "task_not_exist", "invalid_request", "channel_not_found", "build_request_failed"}


def is_documented_refusal(answer: Reply) -> bool:
    """Whether the sources list this answer as one after which nothing was created."""
    if 300 <= answer.status < 400 or answer.status in REFUSED:
        return True
    data = json.loads((answer.content or b"null").decode("utf-8-sig"))
    code = data.get("code")
    errors = [each for each in (data, data.get("error"), data.get("detail")) if isinstance(each, dict)]
    quota = any(isinstance(w := each.get(name), str) and w in QUOTA for each in errors for name in ("code", "type"))
    if code == "build_request_failed":
        return True
    if answer.status < 300:
        return str(code) in NO | set(map(str, REFUSED)) or quota
    no_channel = answer.status == 503 and any(each.get("type") == "new_api_error" for each in errors)
    return no_channel or (quota and answer.status != 408 and (answer.status < 500 or answer.status == 503))


@given(answer=replies)
def test_a_finished_or_failed_task_is_one_that_said_so(answer: Reply) -> None:
    try:
        task = read_task(answer, "task_1")
    except SoraError:
        return
    assert 200 <= answer.status < 300
    assert task.progress is None or 0 <= task.progress <= 100
    assert len(task.generations) <= MAX_GENERATIONS
    for text in (task.gateway_message, task.failure_code, task.gateway_state):
        assert clean(text or "", 300) == (text or "")
    if task.state in {"failed", "blocked"}:
        assert task.generations == ()
