"""The Sora "official format": what to send for a request, and how to read what comes back. No I/O.

Sources: the create page (2025-01-15), the query page (2025-02-22), sibling pages of the same family
for files and models, and the new-api source for both error shapes and the variations in replies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from sora_mcp.errors import BadReply, GatewayError, NotFound, OutcomeUnknown, Refused
from sora_mcp.models import VideoRequest
from sora_mcp.tasks import Generation, State, Task, clean

CREATE_PATH = "/sora/v1/videos"
FILES_PATH = "/v1/files"
MODELS_PATH = "/v1/models"

MAX_ADDRESS = 4096
"""Characters of the longest address that is taken from a reply."""

MAX_GENERATIONS = 16
"""Variants that are read from a reply; further ones are left out."""

MAX_RETRY_AFTER = 86_400
"""Seconds: the longest wait that a gateway may ask for (inferred); more is read as no answer."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

# What an answer to a create means (inferred from the pages and the new-api source). Everything that
# stands in neither table leaves the outcome unknown.
_REFUSED_STATUS = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 429})
_REFUSED_CODES = frozenset({"build_request_failed"})
_UNKNOWN_CODES = frozenset({"do_request_failed", "insert_task_failed"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_STATES: dict[str, State] = {
    "NOT_START": "queued",
    "SUBMITTED": "submitted",
    "QUEUED": "queued",
    "IN_PROGRESS": "running",
    "RUNNING": "running",
    "PROCESSING": "running",
    "SUCCESS": "succeeded",
    "SUCCEEDED": "succeeded",
    "COMPLETED": "succeeded",
    "FAILURE": "failed",
    "FAILED": "failed",
    "CANCELLED": "failed",
    "0": "queued",  # a sibling of the family numbers its states: not started, in progress, failure, success
    "1": "running",
    "2": "failed",
    "3": "succeeded",
}


_Test = Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the gateway. `content` is None where it was too large or was cut off."""

    status: int
    headers: Mapping[str, str]
    content: bytes | None
    now: float = 0.0
    """Unix seconds when it came; needed where Retry-After is a date."""


def task_path(task_id: str) -> str:
    """The path of one task (query page). `task_id` must be `is_id`."""
    return f"{CREATE_PATH}/{task_id}"


def is_id(text: str) -> bool:
    """Whether `text` can stand in a path: letters, digits, `_ . -`, at most 128."""
    return _ID.fullmatch(text) is not None


def body(request: VideoRequest, sdedit_source: Literal["nested", "top"] = "nested") -> dict[str, Any]:
    """The body of a create. The page leaves open where a remix names its source; `nested` is far likelier."""
    sent = request.body()
    if sdedit_source == "top" and "sdedit" in sent:
        edit = sent["sdedit"]
        sent |= {name: edit.pop(name) for name in list(edit) if name.startswith("source_")}
        if not edit:
            del sent["sdedit"]
    return sent


def read_created(reply: Reply) -> str:
    """The task id in the answer to a create.

    Raises Refused where nothing was created, OutcomeUnknown wherever a job may exist.
    """
    data = _json(reply)
    code = _code(data)
    if 200 <= reply.status < 300:
        task_id = _find_id(data)
        if task_id and code is None:
            return task_id
        if task_id or code not in _KNOWN_REFUSALS:  # a task that is named may be there
            what = f"the code {clean(code, 60)!r}" if code else "no task id that can be read"
            raise _error(OutcomeUnknown, reply, f"The gateway answered the create with {what}")
    if _is_refusal(reply, data, code):
        raise _error(Refused, reply, _reason(reply, code))
    raise _error(OutcomeUnknown, reply, f"The gateway answered the create with status {reply.status}")


def read_task(reply: Reply, task_id: str, *, files: bool = False) -> Task:
    """What a query says. `files`: the videos may be files of this machine (the sandbox in this process only).

    Raises NotFound, Refused (the key or the address is wrong) or BadReply (try again).
    """
    data = _json(reply)
    code = _code(data)
    if code == "task_not_exist":
        raise NotFound(
            f"The gateway knows no task {task_id} made with this key.",
            "Look at list_videos for the videos of this server.",
        )
    if reply.status != 200 or code is not None:
        raise _free_error(reply, code)
    outer = data if isinstance(data, dict) else {}
    inner = outer.get("data")
    task = inner if isinstance(inner, dict) else outer
    if "status" not in task and "state" not in task:
        raise _error(BadReply, reply, "The gateway answered a query with something that is not a task")
    return _task(task, _is_http_or_file if files else _is_http)


def read_uploaded(reply: Reply) -> str:
    """The public address of an uploaded file. Raises Refused or BadReply."""
    data = _json(reply)
    url = data.get("url") if isinstance(data, dict) else None
    if reply.status not in {200, 201}:
        raise _free_error(reply, _code(data))
    if not _is_http(url):
        raise _error(BadReply, reply, "The gateway took the image but gave no address for it")
    return str(url)


def read_models(reply: Reply) -> list[str]:
    """The ids of the gateway's models: a free way to see that a key is accepted. Raises Refused or BadReply."""
    data = _json(reply)
    if reply.status != 200:
        raise _free_error(reply, _code(data))
    listed = data.get("data") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise _error(BadReply, reply, "The gateway's list of models cannot be read")
    return [clean(str(each["id"]), 100) for each in listed if isinstance(each, dict) and "id" in each]


def clock_skew(reply: Reply) -> float | None:
    """Seconds by which our clock was ahead of the gateway's (RFC 9110 §6.6.1 Date); None where it gives no date."""
    try:
        return round(reply.now - parsedate_to_datetime(_header(reply, "date")).timestamp())
    except (ValueError, OverflowError):
        return None


# --- errors ---------------------------------------------------------------------------------------

_KNOWN_REFUSALS = frozenset(
    {"quota_not_enough", "task_not_exist", "invalid_request", "channel_not_found", "build_request_failed"}
)

_NEXT_STEPS: dict[int | str, str] = {
    "quota_not_enough": "Ask the user to top up the balance at the gateway, then call again.",
    "build_request_failed": "Tell the user: the gateway cannot build such a job now.",
    "invalid_request": "Change the arguments as the gateway says, then call again.",
    400: "Change the arguments as the gateway says, then call again.",
    401: "Ask the user to check SORA_API_KEY.",
    402: "Ask the user to top up the balance at the gateway, then call again.",
    403: "Ask the user to check the key's rights and balance at the gateway.",
    404: "Ask the user to check SORA_BASE_URL: this address has no Sora endpoint.",
    405: "Ask the user to check SORA_BASE_URL: this address has no Sora endpoint.",
    410: "Ask the user for another gateway: this one says the endpoint is gone for good.",
    413: "Send a smaller image or a shorter prompt.",
    429: "Call again later.",
    503: "The gateway has no channel for this model now; try again later or ask the user to check at the gateway.",
}
UNKNOWN_NEXT_STEP = (
    "Tell the user: whether it ran can only be seen in the gateway's own log; sora-mcp settle then settles it."
)


def _reason(reply: Reply, code: str | None) -> str:
    if _redirects(reply):
        return f"The gateway redirects ({reply.status}) to {_redirected_to(reply) or 'another address'}"
    if code:
        return f"The gateway refused the request ({clean(code, 60)}, status {reply.status})"
    return f"The gateway refused the request (status {reply.status})"


def _redirects(reply: Reply) -> bool:
    return reply.status in _REDIRECTS and bool(_header(reply, "location").strip())


def _redirected_to(reply: Reply) -> str:
    """The base address that a redirect points to; empty for a relative one, or one with a user or a password."""
    address = re.split(r"[?#]", _header(reply, "location"))[0].rstrip("/")
    if not _redirects(reply) or not _is_http(address) or "@" in address:
        return ""
    return clean(re.sub(r"(/sora)?/v1/(videos|files|models)(/[^/]*)?$", "", address), 200)


def _error(kind: type[GatewayError], reply: Reply, message: str) -> GatewayError:
    data = _json(reply)
    code = _code(data)
    next_step = _NEXT_STEPS.get(code or "") or _NEXT_STEPS.get(reply.status, "Try again later.")
    if 300 <= reply.status < 400:
        next_step = "Ask the user to check SORA_BASE_URL: this address does not answer requests itself."
    if _redirected_to(reply):
        next_step = "Ask the user to set SORA_BASE_URL to that address: the key never follows a redirect."
    if kind is OutcomeUnknown:
        next_step = UNKNOWN_NEXT_STEP
    return kind(
        f"{message}.",
        next_step,
        http_status=reply.status,
        retry_after_s=_retry_after(reply),
        upstream=_message(data),
    )


def _free_error(reply: Reply, code: str | None) -> GatewayError:
    """The error of a request that costs nothing: either the gateway refuses it for good, or it may work later."""
    later = reply.status in {408, 429} or reply.status >= 500 or reply.status == 200
    return _error(BadReply if later else Refused, reply, _reason(reply, code))


def _is_refusal(reply: Reply, data: Any, code: str | None) -> bool:
    if code in _REFUSED_CODES:
        return True
    error = data.get("error") if isinstance(data, dict) else None
    error = error if isinstance(error, dict) else {}
    if {code, _code(error)} & _UNKNOWN_CODES or (code == "fail_to_fetch_task" and reply.status >= 500):
        return False
    if reply.status == 503:
        return error.get("type") == "new_api_error"
    return 300 <= reply.status < 400 or reply.status in _REFUSED_STATUS or reply.status < 300


def _json(reply: Reply) -> Any:
    """What a reply says, None where that cannot be read: JSON that is exchanged is UTF-8 (RFC 8259 §8.1)."""
    if reply.content is None:
        return None
    try:
        return json.loads(reply.content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _code(data: Any) -> str | None:
    """The `code` of a task reply or task error; None where there is none or it stands for success."""
    code = data.get("code") if isinstance(data, dict) else None
    text = code if isinstance(code, str) else json.dumps(code)
    return None if text.lower() in {"", "null", "0", "200", "success"} else text


def _message(data: Any) -> str:
    if not isinstance(data, dict):
        return ""
    error = data.get("error")
    message = error.get("message") if isinstance(error, dict) else error or data.get("message")
    return clean(message, 300) if isinstance(message, str) else ""


def _header(reply: Reply, name: str) -> str:
    return next((value for key, value in reply.headers.items() if key.lower() == name), "")


def _retry_after(reply: Reply) -> float | None:
    """Seconds from now, from a Retry-After header (RFC 9110 §10.2.3: seconds or a date); None if absent or absurd."""
    text = _header(reply, "retry-after").strip()
    try:
        is_number = re.fullmatch(r"[0-9]{1,9}", text)
        seconds = float(text) if is_number else round(parsedate_to_datetime(text).timestamp() - reply.now)
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if seconds <= MAX_RETRY_AFTER else None


# --- tasks ----------------------------------------------------------------------------------------


def _find_id(data: Any) -> str | None:
    """The task id of a create's answer: `data` as a string (the page), `data.task_id` or a root id (forks).

    None where the answer says that something failed, whatever ids it holds. `req_…` ids are ours: no task has one.
    """
    if not isinstance(data, dict) or data.get("error") not in (None, "", False) or data.get("success") is False:
        return None
    inner = data.get("data")
    candidates = [inner if _looks_like_id(inner) else None]
    if isinstance(inner, dict):
        candidates = [inner.get("task_id"), inner.get("id")]
    candidates += [data.get("task_id"), data.get("id")]
    return next((c for c in candidates if isinstance(c, str) and is_id(c) and not c.startswith("req_")), None)


def _looks_like_id(text: object) -> bool:
    """Whether a bare text is an id rather than a word such as `ok`."""
    return isinstance(text, str) and ("_" in text or len(text) >= 16)


def _task(task: dict[str, Any], is_address: _Test) -> Task:
    raw = _raw(task.get("data"))
    gateway_state = task.get("status", task.get("state"))
    state = _STATES.get(str(gateway_state).upper(), "running")
    generations = tuple(_generations(task, raw, is_address)) if state == "succeeded" else ()
    if state == "succeeded" and not any(g.url for g in generations) and _was_moderated(raw):
        state = "blocked"
    reason = next((r for r in (task.get("fail_reason"), raw.get("failure_reason")) if isinstance(r, str) and r), "")
    ended_badly = state in {"failed", "blocked"}
    return Task(
        state=state,
        progress=_progress(task, raw),
        gateway_state=clean(str(gateway_state), 40),
        enhanced_prompt=_enhanced_prompt(raw),
        failure_reason=clean(reason, 300) if ended_badly and reason and not _is_http(reason) else None,
        generations=() if ended_badly else generations,
        body=_body_of(raw),
        created_at=task["submit_time"] if _is_whole(task.get("submit_time")) else None,
    )


def _raw(data: Any) -> dict[str, Any]:
    """The inner `data.data`: null, an object, an array, or JSON text of one (several new-api versions)."""
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            return {}
    if isinstance(data, list):
        data = data[0] if data else {}
    return data if isinstance(data, dict) else {}


def _progress(task: dict[str, Any], raw: dict[str, Any]) -> int | None:
    shown, fraction = task.get("progress"), raw.get("progress_pct")
    if isinstance(shown, str) and (match := re.match(r"\s*(\d{1,3})(\.\d*)?\s*%?\s*$", shown)):
        return min(100, int(match[1]))
    if isinstance(shown, int | float) and not isinstance(shown, bool) and 0 <= shown <= 100:
        return int(shown)
    if isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 <= fraction <= 1:
        return int(fraction * 100)
    return None


def _was_moderated(raw: dict[str, Any]) -> bool:
    unsafe, result = raw.get("num_unsafe_generations"), raw.get("moderation_result")
    rejected = isinstance(result, dict) and result.get("is_output_rejection") is True
    return rejected or (isinstance(unsafe, int) and unsafe > 0)


def _enhanced_prompt(raw: dict[str, Any]) -> str | None:
    """A prompt-only task repeats its rewritten prompt as the one action at frame 0 (query page's example)."""
    actions = raw.get("actions")
    if isinstance(actions, dict) and list(actions) == ["0"] and isinstance(actions["0"], str):
        return clean(actions["0"], 1000) or None
    return None


def _generations(task: dict[str, Any], raw: dict[str, Any], is_address: _Test) -> list[Generation]:
    listed = raw.get("generations")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    found = [_generation(entry, variant, is_address) for variant, entry in enumerate(entries[:MAX_GENERATIONS], 1)]
    if any(g.url for g in found):
        return found
    addresses = list(dict.fromkeys(_other_addresses(task, raw, is_address)))[:MAX_GENERATIONS]
    found += [Generation(variant=i) for i in range(len(found) + 1, len(addresses) + 1)]
    beside = [replace(g, url=url) for g, url in zip(found, addresses, strict=False)]
    return beside + found[len(beside) :]


def _generation(data: dict[str, Any], variant: int, is_address: _Test) -> Generation:
    encodings = data.get("encodings")
    paths = [data.get("url")]
    if isinstance(encodings, dict):
        paths += [e.get("path") for k in ("source", "md", "ld") if isinstance(e := encodings.get(k), dict)]
    identity = data.get("id")
    return Generation(
        variant=variant,
        generation_id=identity if isinstance(identity, str) and is_id(identity) else None,
        url=next((path for path in paths if is_address(path)), None),
        **{name: data[name] for name in ("width", "height", "n_frames") if _is_whole(data.get(name))},
    )


def _other_addresses(task: dict[str, Any], raw: dict[str, Any], is_address: _Test) -> Iterator[str]:
    """Video addresses outside `generations`, most trusted first; `fail_reason` holds one in later new-api versions."""
    outputs = raw.get("outputs")
    groups: list[list[Any]] = [
        [raw.get("video_url")],
        [raw.get("url")],
        [raw.get("output")],
        outputs if isinstance(outputs, list) else [],
        [task.get("result_url")],
        [task.get("video_url")],
        [task.get("fail_reason")],
    ]
    for group in groups:
        found = [each for each in group if is_address(each)]
        if found:
            yield from found
            return


_REPEATED_TEXTS = ("prompt", "operation")
_REPEATED_NUMBERS = ("width", "height", "n_frames", "n_variants")


def _body_of(raw: dict[str, Any]) -> dict[str, Any] | None:
    """The fields of the request that the reply repeats, where they have the documented types."""
    texts = {name: clean(raw[name], 4000) for name in _REPEATED_TEXTS if isinstance(raw.get(name), str)}
    numbers = {name: raw[name] for name in _REPEATED_NUMBERS if _is_whole(raw.get(name))}
    return texts | numbers or None


def _is_whole(value: object) -> bool:
    """A number of pixels, frames or unix seconds: far below what a database or a calendar can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**11


def _is_http(value: object) -> bool:
    """An address that can be fetched and shown: no spaces, control, invisible or broken characters, no megabytes."""
    if not isinstance(value, str) or len(value) > MAX_ADDRESS or not value.isprintable():
        return False
    return re.fullmatch(r"https?://[^/\s]+\S*", value, re.IGNORECASE) is not None


def _is_http_or_file(value: object) -> bool:
    """An address of the sandbox in this process, which names files for people to open."""
    return _is_http(value) or (isinstance(value, str) and value.startswith("file:///") and len(value) <= MAX_ADDRESS)
