"""Reading the answer to a query: a job's state, its files, and why it failed."""

from __future__ import annotations

from typing import Any

from sora_mcp.core.ids import path_segment
from sora_mcp.core.tasks import Generation, State, Task, clean
from sora_mcp.dialects.openrouter.prices import usage_cost
from sora_mcp.dialects.openrouter.replies import UPSTREAM_NOUN, code_of, job_in, make_error, message_of
from sora_mcp.dialects.protocol import WEB
from sora_mcp.dialects.replies import Reply, parse_json, query_error

MAX_OUTPUTS = 10
_STATE_WORDS: dict[State, str] = {
    "queued": "pending queued",
    "running": "in_progress processing running",
    "succeeded": "completed succeeded",
    "failed": "failed error cancelled canceled expired",
}
_STATES: dict[str, State] = {word: state for state, words in _STATE_WORDS.items() for word in words.split()}
_REASONS = {
    "cancelled": "the gateway says that it was cancelled",
    "canceled": "the gateway says that it was cancelled",
    "expired": "the gateway says that it expired",
}


def content_path(create_path: str, task_id: str, index: int) -> str:
    """Return the path of an output's file at the gateway's own address: addresses in replies never get the key."""
    return f"{create_path}/{path_segment(task_id)}/content?index={index}"


def state_of(word: str) -> State | None:
    """Return the state that a word means; None for an unknown one."""
    return _STATES.get(word.strip().lower())


def read_task(reply: Reply, task_id: str, create_path: str, schemes: frozenset[str] = WEB) -> Task:
    """Return the task of a job. Its object wins over the HTTP status. Raises NotFound, Refused or BadReply."""
    answer = parse_json(reply)
    job = job_in(answer)
    if job is not None and isinstance(job.get("status"), str):
        return _parse_job(job, reply, task_id, create_path, schemes)
    raise query_error(reply, UPSTREAM_NOUN, make_error)


def _parse_job(job: dict[str, Any], reply: Reply, task_id: str, create_path: str, schemes: frozenset[str]) -> Task:
    word = job["status"].strip().lower()
    state = state_of(word) or "running"
    message = message_of(job) or None if state == "failed" else None
    return Task(
        state=state,
        gateway_state=clean(job["status"], 40),
        failure_reason=message or _REASONS.get(word) if state == "failed" else None,
        failure_code=code_of(job) or None if state == "failed" else None,
        gateway_message=message,
        generations=_outputs(job, reply, task_id, create_path, schemes) if state == "succeeded" else (),
        cost=usage_cost(job),
    )


def _outputs(
    job: dict[str, Any], reply: Reply, task_id: str, create_path: str, schemes: frozenset[str]
) -> tuple[Generation, ...]:
    """Return one variant for each output: with its signed address until that expires, which needs no key, or else with
    the gateway's own path. Of `unsigned_urls` only the number counts.
    """
    signed, unsigned = _list(job.get("urls")), _list(job.get("unsigned_urls"))
    expires_at = job.get("expires_at")
    has_expired = isinstance(expires_at, int | float) and 0 < expires_at <= reply.now
    count = min(max(len(signed), len(unsigned), 1), MAX_OUTPUTS)
    urls = [None if has_expired else _address(each, schemes) for each in signed] + [None] * count
    return tuple(
        Generation(variant=index + 1, url=urls[index] or content_path(create_path, task_id, index))
        for index in range(count)
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _address(value: object, schemes: frozenset[str]) -> str | None:
    """Return a signed address as it is; None if it is not an address."""
    text = value.strip() if isinstance(value, str) else ""
    scheme, separator, rest = text.partition("://")
    is_plain = text.isascii() and text.isprintable() and " " not in text and len(text) <= 4000
    return text if separator and rest and is_plain and scheme.lower() in schemes else None
