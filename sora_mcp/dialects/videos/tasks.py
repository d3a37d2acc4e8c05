"""Reading the answer to a query: a video's state, its files, and why it failed."""

from __future__ import annotations

from typing import Any

from sora_mcp.core.advice import TryAgain
from sora_mcp.core.errors import BadReply
from sora_mcp.core.ids import path_segment
from sora_mcp.core.tasks import Generation, State, Task, clean
from sora_mcp.dialects.protocol import ListedTask
from sora_mcp.dialects.replies import Reply, parse_json, query_error
from sora_mcp.dialects.videos.replies import (
    UPSTREAM_NOUN,
    codes_in,
    free_error,
    id_of,
    is_blocked,
    make_error,
    message_of,
    objects_in,
    state_of,
)

MAX_VARIANTS = 10


def content_path(create_path: str, task_id: str, variant: int = 1, count: int = 1) -> str:
    """Return the path of a variant's file at the server's own address."""
    return f"{create_path}/{path_segment(task_id)}/content" + (f"?variant={variant - 1}" if count > 1 else "")


def read_task(reply: Reply, task_id: str, create_path: str) -> Task:
    """Return the task of a video. Its object wins over the HTTP status. Raises NotFound, Refused or BadReply."""
    answer = parse_json(reply)
    video = next((value for value in objects_in(answer) if _has_state(value, reply)), None)
    if video is not None:
        return _parse_video(video, task_id, create_path)
    raise query_error(reply, UPSTREAM_NOUN, make_error, is_unknown="task_not_exist" in codes_in(answer))


def _has_state(value: dict[str, Any], reply: Reply) -> bool:
    """Whether an object has the video's state: it is a video, or the answer is a success."""
    if state_of(value.get("status")) is None and not isinstance(value.get("status"), str):
        return False
    return value.get("object") == "video" or id_of(value) is not None or 200 <= reply.status < 300


def _parse_video(video: dict[str, Any], task_id: str, create_path: str) -> Task:
    word = video.get("status")
    state: State = state_of(word) or "running"
    if state == "failed" and is_blocked(video):
        state = "blocked"
    has_failed = state in {"failed", "blocked"}
    reason = message_of({"error": video.get("error")}) or None if has_failed else None
    code = next(iter(codes_in({"error": video.get("error")})), None) if has_failed else None
    progress, created_at = _number(video.get("progress")), _number(video.get("created_at"))
    return Task(
        state=state,
        progress=min(100, int(progress)) if progress is not None and progress >= 0 else None,
        gateway_state=clean(str(word), 40),
        failure_reason=reason,
        failure_code=code,
        gateway_message=reason,
        generations=_generations(video, task_id, create_path) if state == "succeeded" else (),
        body=_echoed_body(video),
        created_at=int(created_at) if created_at is not None and 0 < created_at < 10**11 else None,
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -(10**11) < value < 10**11 else None  # NaN is in no range


def _generations(video: dict[str, Any], task_id: str, create_path: str) -> tuple[Generation, ...]:
    """Return one variant for each file that the object counts; its addresses are not used: `/content` has all files."""
    urls = video.get("urls")
    count = min(max(1, len(urls)), MAX_VARIANTS) if isinstance(urls, list) else 1
    return tuple(
        Generation(variant=number, url=content_path(create_path, task_id, number, count))
        for number in range(1, count + 1)
    )


def _echoed_body(video: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the object repeats of the request, for a video that another program made."""
    prompt = video.get("prompt")
    return {"prompt": clean(prompt, 4000)} if isinstance(prompt, str) and prompt else None


def read_list(reply: Reply) -> list[ListedTask]:
    """Return the jobs of a list. Raises Refused or BadReply."""
    if reply.status != 200:
        raise free_error(reply)
    answer = parse_json(reply)
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise make_error(BadReply, reply, "The server's list of videos cannot be read.", TryAgain())
    return [listed for each in entries if isinstance(each, dict) and (listed := _listed_task(each)) is not None]


def _listed_task(video: dict[str, Any]) -> ListedTask | None:
    task_id, created_at, prompt = id_of(video), _number(video.get("created_at")), video.get("prompt")
    if task_id is None or created_at is None:
        return None
    text = clean(prompt, 4000) if isinstance(prompt, str) else ""
    return ListedTask(task_id, created_at, text, state_of(video.get("status")) or "running")
