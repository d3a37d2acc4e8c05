"""Reading these servers' answers: the object of a video, its id, and errors in their three shapes.

FastAPI's is `{"detail": text | list}`, OpenAI's is `{"error": {"message", "type", "code"}}`, new-api has that and
`{"code", "message", "data"}`; a failed video's `error` may be null, an object or a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from sora_mcp.core.advice import Advice, AskUser, CheckKey, Do, Setting, Settle, TryAgain
from sora_mcp.core.errors import GatewayError, OutcomeUnknown, Refused
from sora_mcp.core.ids import is_id
from sora_mcp.core.tasks import State, clean
from sora_mcp.dialects import replies
from sora_mcp.dialects.replies import Reply, excerpt, header, parse_json, parse_nested_json, retry_after

UPSTREAM_NOUN = "server"
"""The noun for such an upstream in messages."""

_STATE_WORDS: dict[State, str] = {
    "queued": "queued pending submitted not_start created unknown waiting",
    "running": "in_progress running processing generating",
    "succeeded": "completed succeeded success",
    "failed": "failed failure error cancelled canceled expired deleted",
    "blocked": "blocked moderated",
}
STATES: dict[str, State] = {word: state for state, words in _STATE_WORDS.items() for word in words.split()}
_BLOCKED_CODES = frozenset({"moderation_blocked", "content_policy_violation", "content_filter"})
_QUOTA_CODES = frozenset(
    {"insufficient_quota", "insufficient_user_quota", "quota_not_enough", "billing_hard_limit_reached"}
)
_ID_FIELDS = ("id", "task_id", "video_id")
_ENVELOPE_FIELDS = ("data", "video", "task")


def state_of(word: object) -> State | None:
    """Return the state that a server's word means; None for an unknown one."""
    return STATES.get(word.strip().lower()) if isinstance(word, str) else None


def as_id(value: object) -> str | None:
    """Return the id in a field, with nothing but blanks around it."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        value = str(value)
    text = value.strip() if isinstance(value, str) else ""
    return text if is_id(text) and text.lower() not in {"null", "none", "undefined", "0"} else None


def id_of(value: Any) -> str | None:
    """Return the id of an object."""
    if not isinstance(value, dict):
        return None
    return next((video_id for name in _ID_FIELDS if (video_id := as_id(value.get(name)))), None)


def objects_in(answer: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects of an answer that may be a video: itself, those inside an envelope, and those that a gateway in
    between has put into the text of an error."""
    if not isinstance(answer, dict):
        return
    yield answer
    for name in _ENVELOPE_FIELDS:
        inner = parse_nested_json(answer.get(name))
        if isinstance(inner, dict):
            yield inner
    yield from _embedded_objects(message_of(answer, 100_000))


def _embedded_objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    for start in [match.start() for match in re.finditer(r"\{", text)][:16]:
        try:
            value, _ = decoder.raw_decode(text[start:])
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def is_video(value: dict[str, Any]) -> bool:
    """Whether an object is a video's: it says so, or it says in which state it is."""
    return id_of(value) is not None and (value.get("object") == "video" or state_of(value.get("status")) is not None)


def ids_in(answer: Any) -> list[str]:
    """Return every id in an answer that may be a video's, best first."""
    ids = [id_of(value) for value in objects_in(answer)]
    bare = as_id(answer.get("data")) if isinstance(answer, dict) else None
    return list(dict.fromkeys(each for each in [*ids, bare] if each))


# --- errors ---------------------------------------------------------------------------------------


def says_error(answer: Any) -> bool:
    """Whether an answer is an error, in one of the three shapes."""
    if not isinstance(answer, dict):
        return False
    return any(answer.get(name) not in (None, "", False) for name in ("error", "detail")) or (
        isinstance(answer.get("message"), str) and "code" in answer
    )


def message_of(answer: Any, limit: int = 300) -> str:
    """Return the message of an error, made safe to show: data to quote, never instructions."""
    return next((text for each in _texts(answer, 4) if (text := clean(each, limit))), "")


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth:
        for each in value[:8]:
            yield from _texts(each, depth - 1)
    elif isinstance(value, dict) and depth:
        location = [str(part) for part in value["loc"]] if isinstance(value.get("loc"), list) else []
        if isinstance(value.get("msg"), str):  # FastAPI names the field beside the message
            yield ": ".join([*location[-1:], value["msg"]])
        for name in ("error", "message", "detail", "reason"):
            yield from _texts(value.get(name), depth - 1)


def codes_in(answer: Any) -> list[str]:
    """Return the codes and types of an error."""
    if not isinstance(answer, dict):
        return []
    error = answer.get("error")
    holders = [error, answer] if isinstance(error, dict) else [answer]
    values = [holder.get(name) for holder in holders for name in ("code", "type")]
    return [clean(str(value), 60) for value in values if isinstance(value, str | int) and not isinstance(value, bool)]


def is_about_quota(answer: Any) -> bool:
    """Whether an error says that the balance is used up."""
    return not _QUOTA_CODES.isdisjoint(code.lower() for code in codes_in(answer))


def is_blocked(video: dict[str, Any]) -> bool:
    """Whether a failed video was withheld by moderation."""
    return not _BLOCKED_CODES.isdisjoint(code.lower() for code in codes_in(video))


def make_error(
    error_type: type[GatewayError], reply: Reply, message: str, *advice: Advice, may_work_later: bool = False
) -> GatewayError:
    """Make an error of that type, with everything that the answer says."""
    answer = parse_json(reply)
    error = error_type(
        message,
        *(advice or _advice(reply, answer)),
        http_status=reply.status,
        retry_after_s=None if error_type is OutcomeUnknown else retry_after(reply),
        upstream=message_of(answer),
        code=next(iter(codes_in(answer)), ""),
        answer=excerpt(reply),
    )
    if isinstance(error, Refused):
        error.may_work_later = may_work_later
    return error


def free_error(reply: Reply) -> GatewayError:
    """Return the error of a request that costs nothing: it is refused for good, or it may work later."""
    return replies.free_error(reply, UPSTREAM_NOUN, make_error)


_CHANGE = Do("Change the arguments as the server says, then try again.")
_ADVICE: dict[int, Advice] = {
    400: _CHANGE,
    401: CheckKey(),
    402: AskUser("top up the balance there"),
    403: AskUser("check the key's rights and balance there"),
    404: AskUser(("check ", Setting("base_url"), " and ", Setting("dialect"), ": this address has no /v1/videos")),
    405: AskUser(("check ", Setting("base_url"), " and ", Setting("dialect"), ": this address has no /v1/videos")),
    413: Do("Send a smaller image or a shorter prompt."),
    422: _CHANGE,
    429: TryAgain(),
}


def _advice(reply: Reply, answer: Any) -> tuple[Advice, ...]:
    if reply.status >= 500 or reply.status < 300:
        return (Settle(),)
    if is_about_quota(answer):
        return (AskUser("top up the balance there"), TryAgain())
    if 300 <= reply.status < 400:
        to_address = " to the address that it names: the key never follows a redirect"
        return (AskUser(("set ", Setting("base_url"), to_address if header(reply, "location") else " correctly")),)
    return (_ADVICE.get(reply.status, TryAgain()),)
