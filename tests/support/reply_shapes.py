"""Every shape of a reply that the family of gateways is known to send, and what each means: a new one is a line here.

`tests/unit/test_reply_shapes.py` walks these tables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from sora_mcp.core.tasks import State

A, B = "https://cdn.example/a.mp4", "https://cdn.example/b.mp4"
HTML = b"<!DOCTYPE html><html><body><h1>503 Service Temporarily Unavailable</h1></body></html>"
ODD = "job:1+2=3/4"
MAX_LENGTH_ID = "x" * 300


@dataclass(frozen=True, slots=True)
class Create:
    """An answer to a create: its ids if it is accepted, else its outcome."""

    reply: Any
    ids: tuple[str, ...] = ()
    outcome: Literal["accepted", "rejected", "unknown"] = "accepted"
    status: int = 200
    next_step: str = ""
    """A part of the advice."""


def accepted(reply: Any, *ids: str, status: int = 200) -> Create:
    return Create(reply, ids, status=status)


def rejected(reply: Any, status: int = 200, next_step: str = "") -> Create:
    return Create(reply, outcome="rejected", status=status, next_step=next_step)


def unknown(reply: Any, status: int = 200) -> Create:
    return Create(reply, outcome="unknown", status=status, next_step="own log")


def error(word: str, name: str = "type") -> dict[str, Any]:
    return {"error": {"message": "no", name: word}}


IDS = [
    # by name before place
    accepted({"code": "success", "message": "", "data": "task_1"}, "task_1"),
    accepted({"code": 0, "data": 17}, "17"),
    accepted({"code": 0, "data": "17"}, "17"),
    accepted({"data": {"taskId": "a"}, "id": "b"}, "a"),
    accepted({"id": 5, "data": {"task_id": "a", "id": 6}}, "a"),
    accepted({"id": "b", "output": {"task_id": "a"}, "request_id": "c"}, "a"),
    accepted({"id": "b", "result": {"jobId": "a"}}, "a"),
    accepted({"data": {"output": {"task_id": "a"}}}, "a"),
    accepted({"TaskID": "a"}, "a"),
    accepted({"code": 200, "msg": "success", "data": {"taskId": "a"}}, "a"),
    accepted({"data": {"id": 12}}, "12"),
    accepted({"result": {"id": "a"}}, "a"),
    accepted({"id": "video_1", "object": "video", "status": "queued"}, "video_1"),
    accepted({"data": '{"task_id": "a"}'}, "a"),
    accepted({"data": '"task_1"'}, "task_1"),
    accepted({"data": "ok", "task_id": "a"}, "a"),
    accepted({"data": "in_progress", "id": "a"}, "a"),
    accepted({"task_id": None, "id": "a"}, "a"),
    accepted({"task_id": "", "data": {"task_id": "a"}}, "a"),
    accepted({"task_id": "null", "id": "a"}, "a"),
    accepted({"task_id": 0, "id": "a"}, "a"),
    accepted({"task_id": True, "id": "a"}, "a"),
    accepted({"task_id": "a"}, "a", status=201),
    accepted({"task_id": "a"}, "a", status=202),
    # lists
    accepted({"data": ["task_1", "task_2"]}, "task_1", "task_2"),
    accepted({"data": [{"task_id": "a"}, {"task_id": "b"}]}, "a", "b"),
    accepted({"data": [{"id": 1}, {"id": 2}]}, "1", "2"),
    accepted({"data": {"task_ids": ["a", "b", "a"]}}, "a", "b"),
    accepted({"data": ["ok", "task_1"]}, "task_1"),
    accepted([{"task_id": "a"}], "a"),
    accepted({"data": "task_1", "task_id": "a"}, "task_1", "a"),
    # what an id looks like
    accepted({"data": "  task_1\n"}, "task_1"),
    accepted({"data": "\ufefftask_1\u200b"}, "task_1"),
    accepted({"task_id": ODD}, ODD),
    accepted({"task_id": "a#2"}, "a#2"),
    accepted({"task_id": "req_1"}, "req_1"),
    accepted({"task_id": "gen_1"}, "gen_1"),
    accepted({"data": MAX_LENGTH_ID}, MAX_LENGTH_ID),
    accepted({"data": 10**40}, str(10**40)),
    unknown({"data": MAX_LENGTH_ID + "x"}),
    unknown({"data": "ok"}),
    unknown({"data": "created"}),
    unknown({"data": "in_progress"}),
    unknown({"data": True}),
    unknown({"data": 0}),
    unknown({"data": -17}),
    unknown({"data": 1.5}),
    unknown({"data": "two words_1"}),
    unknown({"data": ".."}),
    unknown({"data": A}),
    unknown({"data": "task_\u202e1"}),
    unknown({"data": [True, "ok", None, {}]}),
    unknown(["task_1"]),
    unknown(b'"task_1"'),
    unknown(b"task_1"),
    # a request id names the HTTP call
    accepted({"request_id": "a"}, "a"),
    accepted({"code": 0, "message": "ok", "requestId": "a"}, "a"),
    accepted({"code": "success", "data": {"request_id": "a"}}, "a"),
    accepted({"request_id": "a", "status": "IN_QUEUE", "queue_position": 3}, "a"),
    unknown({"request_id": "a", "message": "rate limited"}),
    unknown({"request_id": "a", "status": "error"}),
    unknown({"request_id": "a", "data": "ok"}),
    unknown({"request_id": "a", "data": {"queued": True}}),
    unknown({"request_id": "a", "code": "busy"}),
    unknown({"request_id": "a", "success": False}),
    unknown({"request_id": "a", "error": "no"}),
    unknown({"request_id": "a", "detail": "Not Found"}),
]

REFUSALS = [
    *(rejected({"code": code, "msg": "no"}) for code in (400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 429)),
    rejected({"code": "402", "msg": "no"}, next_step="top up"),
    rejected({"code": 402, "msg": "no", "request_id": "a"}, next_step="top up"),
    rejected({"code": 402, "msg": "no", "data": None}, next_step="top up"),
    rejected({"code": 429, "msg": "slow down"}, next_step="later"),
    *(
        unknown({"code": code, "msg": "no"})
        for code in (408, 409, 418, 425, 451, 499, 500, 501, 502, 503, 504, 520, -1)
    ),
    *(unknown({"code": code, "msg": "no"}) for code in (1, 4, 42, 4020, 4290, 402.5, True, [402], {"code": 402})),
    unknown({"code": 402, "msg": "no", "data": {"taskId": "a"}}),
    unknown({"code": 402, "msg": "no", "id": "a"}),
    unknown({"code": 429, "msg": "no", "data": "task_1"}),
    unknown({"code": 422, "success": False, "task_id": "a"}),
    unknown({"error": {"code": 402, "message": "no"}}),
    unknown({"message": "code 402"}),
    unknown({"status": "error", "message": "rate limited"}),
    # errors of what stands in between
    unknown({"detail": "Internal Server Error"}),
    unknown({"detail": [{"msg": "field required", "loc": ["body"]}]}),
    unknown({"msg": "no"}),
    unknown({"error": "no"}),
    unknown(HTML),
    unknown(HTML, 502),
    unknown(HTML, 503),
    unknown(b"upstream connect error", 503),
    rejected({"detail": [{"msg": "field required"}]}, 422, next_step="arguments"),
    rejected({"detail": "Not authenticated"}, 401, next_step="SORA_API_KEY"),
    rejected(HTML, 404, next_step="SORA_BASE_URL"),
    # a no that names a task
    unknown({"code": "success", "data": "task_1"}, 429),
    unknown({"task_id": "task_1"}, 400),
    rejected({"code": "invalid_request", "message": "no", "data": "INVALID_PROMPT"}, 400),
]

QUOTA = [
    *(
        case
        for word in ("insufficient_quota", "insufficient_user_quota", "billing_hard_limit", "Insufficient-Quota")
        for reply in (
            error(word),
            error(word, "code"),
            {"code": word, "message": "no"},
            {"type": word, "message": "no"},
        )
        for case in (
            *(rejected(reply, status, "top up") for status in (200, 400, 402, 403, 409, 418, 429, 451, 503)),
            *(unknown(reply, status) for status in (408, 500, 502, 504, 520)),
        )
    ),
    rejected({"code": "quota_not_enough", "message": "no"}, 403, "top up"),
    rejected({"code": "quota_not_enough", "message": "no"}, 429, "top up"),
    unknown({"message": "insufficient_quota"}),
    unknown({"error": "insufficient_quota"}),
    unknown({"error": {"message": "insufficient_quota"}}),
    unknown({"error": {"message": "insufficient_quota"}}, 503),
    unknown(error("insufficient_quota") | {"task_id": "a"}),
    unknown(error("insufficient_quota") | {"id": "a"}),
    unknown({"code": 500, "type": "insufficient_quota"}),
    unknown({"code": "insert_task_failed", "type": "insufficient_quota"}, 503),
]

CREATES = [*IDS, *REFUSALS, *QUOTA]


@dataclass(frozen=True, slots=True)
class Query:
    """An answer to a query, and the state of the task in it; None if there is none."""

    reply: Any
    state: State | None = None
    urls: tuple[str, ...] = ()
    reason: str | None = None
    code: str | None = None
    status: int = 200


def task(state: State, *urls: str, **fields: Any) -> Query:
    """A succeeded or failed task in the documented envelope."""
    status = {"succeeded": "SUCCESS", "failed": "FAILURE", "running": "IN_PROGRESS"}[state]
    return Query({"code": "success", "data": {"task_id": "task_1", "status": status} | fields}, state, urls)


def failed(reason: str | None, code: str | None = None, **fields: Any) -> Query:
    """A failed task in the documented envelope, with its reason and code."""
    reply = {"code": "success", "message": "", "data": {"task_id": "task_1", "status": "FAILURE"} | fields}
    return Query(reply, "failed", reason=reason, code=code)


WORDS: dict[State, str] = {
    "queued": "not_start notstarted submitted queued queueing pending waiting created starting preparing unknown",
    "running": "in_progress running processing generating streaming",
    "succeeded": "success succeeded succeed successful completed complete finished done",
    "failed": "failure failed fail error cancelled canceled expired timeout timed_out rejected deleted",
    "blocked": "moderated blocked nsfw content_filtered",
}


def spellings(word: str) -> list[str]:
    return [word, word.upper(), word.title(), word.replace("_", " "), word.replace("_", "-"), f" {word} "]


STATES = [
    Query({"code": "success", "data": {"task_id": "task_1", "status": spelling}}, state)
    for state, words in WORDS.items()
    for word in words.split()
    for spelling in spellings(word)
]

IS_A_TASK = [
    Query({"id": "task_1", "status": "expired"}, "failed"),
    Query({"id": "another", "object": "video", "status": "error"}, "failed"),
    Query({"status": "failed", "progress": 30}, "failed"),
    Query({"object": "video", "status": "done"}, "succeeded"),
    Query({"status": "done", "url": A}, "succeeded", (A,)),
    Query({"status": "done", "output": [A]}, "succeeded", (A,)),
    Query({"status": "failed", "data": {"id": "x", "prompt": "y"}}, "failed"),
    Query({"output": {"task_id": "task_1", "task_status": "SUCCEEDED", "video_url": A}}, "succeeded", (A,)),
    Query({"code": 0, "data": {"task_id": 1, "task_status": "succeed"}}, "succeeded"),
    Query({"code": 200, "data": {"taskId": "1", "state": "waiting"}}, "queued"),
    Query(
        {"code": "success", "data": [{"task_id": "task_0", "status": "FAILURE"}, {"task_id": "task_1", "status": "x"}]},
        "running",
    ),
    Query({"status": "success", "data": {"task_id": "task_1", "status": "processing"}}, "running"),
    Query({"code": "success", "data": '{"task_id": "task_1", "status": "QUEUED"}'}, "queued"),
    Query({"id": "task_1", "status": "", "state": "done"}, "succeeded"),
    Query({"id": "task_1", "status": None, "state": "error"}, "failed"),
    Query(
        {"id": "task_1", "status": "failed", "code": "content_policy", "message": "no"},
        "failed",
        (),
        "no",
        "content_policy",
    ),
    # what is none
    Query({"status": "error", "message": "rate limited"}),
    Query({"status": "failed"}),
    Query({"status": "success"}),
    Query({"status": "success", "message": "pong", "data": None}),
    Query({"state": "error", "error": {"message": "no"}}),
    Query({"status": "error", "request_id": "a", "message": "no"}),
    Query({"status": "error", "message": "no", "data": {"retry_after": 5}}),
    Query({"code": "success", "data": {"status": "error", "message": "rate limited"}}),
    Query({"code": 500, "msg": "busy", "data": {"task_id": "task_1", "status": "failed"}}),
    Query({"code": "busy", "status": "failed", "id": "another"}),
    Query({"status": 503, "message": "no"}),
    Query({"task_id": "task_1", "status": "FAILURE"}, status=500),
    Query(HTML),
    Query(HTML, status=503),
    Query(b"upstream connect error", status=503),
    Query({"detail": "no"}, status=500),
]

ADDRESSES = [
    *(task("succeeded", A, **{name: A}) for name in ("url", "video_url", "videoUrl", "result_url", "output", "result")),
    *(task("succeeded", A, data={name: A}) for name in ("url", "video_url", "output", "result", "video", "uri")),
    *(task("succeeded", A, B, **{name: [A, B]}) for name in ("outputs", "videos", "results", "urls", "resultUrls")),
    *(task("succeeded", A, B, output=[{name: A}, {name: B}]) for name in ("url", "video_url", "uri", "path")),
    *(task("succeeded", A, output={name: A}) for name in ("url", "video_url", "uri", "path")),
    *(task("succeeded", A, B, data={name: [A, B]}) for name in ("outputs", "videos", "results", "url", "video_url")),
    task("succeeded", A, metadata={"url": A}),
    task("succeeded", A, B, task_result={"videos": [{"id": "x", "url": A}, {"url": B}]}),
    task("succeeded", A, video={"url": A, "cover": B}),
    task("succeeded", A, B, result={"videos": [{"url": [A]}, {"url": [B]}]}),
    task("succeeded", A, B, resultJson=json.dumps({"resultUrls": [A, B]})),
    task("succeeded", A, result_json=json.dumps([A])),
    task("succeeded", A, B, data=[A, B]),
    task("succeeded", A, B, data=[{"url": A}, {"url": B}]),
    task("succeeded", A, data=A),
    task("succeeded", A, fail_reason=A),
    task("succeeded", A, url=f"  {A}\n"),
    task(
        "succeeded",
        "https://cdn.example/my%20own%20video.mp4?a=b%20c",
        url="https://cdn.example/my own video.mp4?a=b c",
    ),
    task("succeeded", "https://cdn.example/a.mp4", url="//cdn.example/a.mp4"),
    task("succeeded", url="cdn.example/a.mp4"),
    task("succeeded", output={"cover_url": A, "thumbnail": {"url": B}}),
    task("succeeded", A, output=["", None, 5, A, A]),
    task("failed", url=A),
    task("running", url=A),
]

REASONS = [
    failed("no faces", fail_reason="no faces"),
    failed("no faces", "face", fail_reason={"message": "no faces", "code": "face"}),
    failed("no faces", fail_reason=json.dumps({"error": {"message": "no faces"}})),
    failed("no faces", failure_reason="no faces"),
    failed("no faces", error="no faces"),
    failed("no faces", "face", error={"message": "no faces", "code": "face"}),
    failed("no faces", "policy", error={"message": "no faces", "type": "policy"}),
    failed("no faces", message="no faces"),
    failed("no faces", msg="no faces"),
    failed("no faces", detail="no faces"),
    failed("no faces", detail=[{"msg": "no faces"}]),
    failed("no faces", data={"failure_reason": "no faces"}),
    failed("no faces", "7", data={"error": {"message": "no faces", "code": 7}}),
    failed("no faces", data={"data": {"failure_reason": "no faces"}}),
    failed("content_policy", "sexual", data={"moderation_result": {"type": "content_policy", "code": "sexual"}}),
    failed("no faces", "face", data={"moderation_result": {"code": "face"}}, fail_reason="no faces"),
    failed("no faces", "501", failMsg="no faces", failCode="501"),
    failed(None, fail_reason=""),
    failed(None, fail_reason=None, error=None, message="success"),
    failed(None, fail_reason=A),
    failed("no faces", fail_reason="\x1b[31mno\nfaces\u202e"),
]

BLOCKED = [
    Query(
        {"code": "success", "data": {"task_id": "1", "status": "NSFW", "message": "no faces"}},
        "blocked",
        (),
        "no faces",
    ),
    Query(
        {
            "code": "success",
            "data": {
                "task_id": "1",
                "status": "SUCCESS",
                "data": {"moderation_result": {"type": "policy", "code": "face", "is_output_rejection": True}},
            },
        },
        "blocked",
        (),
        "policy",
        "face",
    ),
    Query({"code": 0, "data": {"id": 1, "status": "done", "num_unsafe_generations": 1}}, "blocked"),
]

QUERIES = [*STATES, *IS_A_TASK, *ADDRESSES, *REASONS, *BLOCKED]
