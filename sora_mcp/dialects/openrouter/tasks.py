"""What the answer to a query says of a job: its state, its files, why it failed."""

from __future__ import annotations

from typing import Any

from sora_mcp.core.ids import quoted
from sora_mcp.core.tasks import Generation, State, Task, clean
from sora_mcp.dialects.openrouter.prices import usage_cost
from sora_mcp.dialects.openrouter.replies import WHO, code_of, error_of, job_in, message_of
from sora_mcp.dialects.protocol import WEB
from sora_mcp.dialects.replies import Reply, no_task, parsed

MOST_OUTPUTS = 10
_WORDS: dict[State, str] = {
    "queued": "pending queued",
    "running": "in_progress processing running",
    "succeeded": "completed succeeded",
    "failed": "failed error cancelled canceled expired",
}
_STATES: dict[str, State] = {word: state for state, words in _WORDS.items() for word in words.split()}
_REASONS = {
    "cancelled": "the gateway says that it was cancelled",
    "canceled": "the gateway says that it was cancelled",
    "expired": "the gateway says that it expired",
}


def content_path(create_path: str, task_id: str, index: int) -> str:
    """Where the file of an output stands, at the gateway's own address: addresses in replies never get the key."""
    return f"{create_path}/{quoted(task_id)}/content?index={index}"


def state_of(word: str) -> State | None:
    """The state that a word means; None for one that stands in no table."""
    return _STATES.get(word.strip().lower())


def read_task(reply: Reply, task_id: str, create_path: str, schemes: frozenset[str] = WEB) -> Task:
    """How a job stands. Its object wins over the HTTP status. Raises NotFound, Refused or BadReply."""
    answer = parsed(reply)
    job = job_in(answer)
    if job is not None and isinstance(job.get("status"), str):
        return _read(job, reply, task_id, create_path, schemes)
    raise no_task(reply, WHO, error_of)


def _read(job: dict[str, Any], reply: Reply, task_id: str, create_path: str, schemes: frozenset[str]) -> Task:
    word = job["status"].strip().lower()
    state = state_of(word) or "running"
    said = message_of(job) or None if state == "failed" else None
    return Task(
        state=state,
        gateway_state=clean(job["status"], 40),
        failure_reason=said or _REASONS.get(word) if state == "failed" else None,
        failure_code=code_of(job) or None if state == "failed" else None,
        gateway_message=said,
        generations=_outputs(job, reply, task_id, create_path, schemes) if state == "succeeded" else (),
        cost=usage_cost(job),
    )


def _outputs(
    job: dict[str, Any], reply: Reply, task_id: str, create_path: str, schemes: frozenset[str]
) -> tuple[Generation, ...]:
    """One for each output: its signed address while that holds, which needs no key; else where the gateway serves it.

    Of `unsigned_urls` only the number counts.
    """
    signed, unsigned = _list(job.get("urls")), _list(job.get("unsigned_urls"))
    expires_at = job.get("expires_at")
    has_expired = isinstance(expires_at, int | float) and 0 < expires_at <= reply.now
    count = min(max(len(signed), len(unsigned), 1), MOST_OUTPUTS)
    urls = [None if has_expired else _address(each, schemes) for each in signed] + [None] * count
    return tuple(
        Generation(variant=index + 1, url=urls[index] or content_path(create_path, task_id, index))
        for index in range(count)
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _address(value: object, schemes: frozenset[str]) -> str | None:
    """A signed address as it is, where it is one."""
    text = value.strip() if isinstance(value, str) else ""
    scheme, is_one, rest = text.partition("://")
    is_plain = text.isascii() and text.isprintable() and " " not in text and len(text) <= 4000
    return text if is_one and rest and is_plain and scheme.lower() in schemes else None
