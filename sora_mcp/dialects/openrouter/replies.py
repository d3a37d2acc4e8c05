"""Reading OpenRouter's answers: the object of a job, its id, and errors.

An error is `{"error": {"code": int, "message": str, "metadata"?: object}, "user_id"?: str}` (its page of errors).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sora_mcp.core.advice import Advice, AskUser, CheckKey, Do, Setting, Settle, TryAgain
from sora_mcp.core.errors import GatewayError, OutcomeUnknown
from sora_mcp.core.ids import is_id
from sora_mcp.core.tasks import clean
from sora_mcp.dialects import replies
from sora_mcp.dialects.replies import Reply, excerpt, parse_json, retry_after

UPSTREAM_NOUN = "gateway"
"""The noun for OpenRouter in messages."""
MODERATION_STATUS = 403


def job_in(answer: Any) -> dict[str, Any] | None:
    """Return the object of a job in an answer: it has an id, or a state."""
    if not isinstance(answer, dict):
        return None
    inside = answer.get("data")
    candidates = [answer, inside] if isinstance(inside, dict) else [answer]
    return next((each for each in candidates if id_of(each) or isinstance(each.get("status"), str)), None)


def id_of(job: Any) -> str | None:
    """Return the id of a job."""
    value = job.get("id") if isinstance(job, dict) else None
    text = value.strip() if isinstance(value, str) else ""
    return text if is_id(text) and text.lower() not in {"null", "none", "undefined"} else None


def error_in(answer: Any) -> Any:
    """Return the error of an answer: an object, a text, or None."""
    return answer.get("error") if isinstance(answer, dict) else None


def code_of(answer: Any) -> str:
    """Return the code of an error; empty if it has none."""
    error = error_in(answer)
    code = error.get("code") if isinstance(error, dict) else None
    return clean(str(code), 60) if isinstance(code, str | int) and not isinstance(code, bool) else ""


def message_of(answer: Any) -> str:
    """Return an error's message, with moderation's reasons, made safe to show: data to quote, never instructions."""
    error = error_in(answer) or (answer if isinstance(answer, dict) and "status" not in answer else None)
    text = error.get("message", error.get("detail")) if isinstance(error, dict) else error
    message = clean(text, 300) if isinstance(text, str) else ""
    reasons = ", ".join(reasons_in(answer))
    if not reasons or reasons in message:
        return message
    return clean(f"{message} ({reasons})" if message else reasons, 300)


def reasons_in(answer: Any) -> Iterator[str]:
    """Yield moderation's own reasons for flagging a request (`metadata.reasons`)."""
    error = error_in(answer)
    metadata = error.get("metadata") if isinstance(error, dict) else None
    reasons = metadata.get("reasons") if isinstance(metadata, dict) else None
    for each in reasons[:8] if isinstance(reasons, list) else ():
        if isinstance(each, str) and (text := clean(each, 60)):
            yield text


def make_error(error_type: type[GatewayError], reply: Reply, message: str, *advice: Advice) -> GatewayError:
    """Make an error of that type, with everything that the answer says."""
    answer = parse_json(reply)
    return error_type(
        message,
        *(advice or _advice(reply, answer)),
        http_status=reply.status,
        retry_after_s=None if error_type is OutcomeUnknown else retry_after(reply),
        upstream=message_of(answer),
        code=code_of(answer),
        answer=excerpt(reply),
    )


def free_error(reply: Reply) -> GatewayError:
    """Return the error of a request that costs nothing: it is refused for good, or it may work later."""
    return replies.free_error(reply, UPSTREAM_NOUN, make_error)


_CHANGE = Do("Change the arguments as the gateway says, then try again.")
_ADDRESS = ("check ", Setting("base_url"), " and ", Setting("dialect"))
_ADVICE: dict[int, tuple[Advice, ...]] = {
    400: (_CHANGE,),
    401: (CheckKey(),),
    402: (AskUser("add credits to the account or the key at the gateway"), TryAgain()),
    403: (AskUser("check at the gateway what the key may do"),),
    404: (Do("The model may have been withdrawn: name another."), AskUser(_ADDRESS)),
    413: (Do("Send a smaller image or a shorter prompt."),),
    429: (TryAgain(),),
}


def _advice(reply: Reply, answer: Any) -> tuple[Advice, ...]:
    if reply.status == MODERATION_STATUS and next(reasons_in(answer), None) is not None:
        return (Do("Moderation flagged the request: change the prompt or the image before sending it again."),)
    if 300 <= reply.status < 400:
        return (AskUser(("set ", Setting("base_url"), " to the gateway's own address: the key follows no redirect")),)
    if reply.status >= 500 or reply.status < 300:
        return (Settle(),)
    return _ADVICE.get(reply.status, (AskUser(_ADDRESS),))
