"""What an answer to a create means: accepted, refused (nothing was created), or unknown (a job may exist).

It costs money to read one wrongly, so only what the sources list is a refusal (inferred from the pages, new-api's
source, and its siblings' documentation), and everything that stands in no list leaves the outcome unknown.
"""

from __future__ import annotations

import re
from typing import Any

from sora_mcp.core.errors import OutcomeUnknown, Refused
from sora_mcp.core.tasks import is_plain_code
from sora_mcp.dialects.protocol import Created
from sora_mcp.dialects.replies import NOTHING_DONE, Reply, kind_of, parsed
from sora_mcp.dialects.sora.errors import (
    code_of,
    error_of,
    is_about_quota,
    message_of,
    refusal,
    says_error,
    says_success,
    words_in,
)
from sora_mcp.dialects.sora.ids import ids_in, lone_request_ids
from sora_mcp.dialects.sora.words import STATE_NAMES, Fields, fold, state_of

REFUSED_STATUS = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 429})
"""Statuses that mean: nothing was created. In a 200 the same numbers mean that as the `code`, if no id is there."""

_REFUSED_CODES = frozenset(map(fold, ("build_request_failed",)))
"""Codes that mean it with any status."""
_REFUSED_IN_SUCCESS = _REFUSED_CODES | frozenset(
    map(fold, ("quota_not_enough", "task_not_exist", "invalid_request", "channel_not_found"))
)
"""Codes that mean it in a 200 too, if no id is there."""
_UNKNOWN_CODES = frozenset(map(fold, ("do_request_failed", "insert_task_failed")))
"""Codes of errors that come after the job was sent on, or exists."""


def read_created(reply: Reply) -> Created:
    """The task in the answer to a create.

    Raises Refused where nothing was created, OutcomeUnknown wherever a job may exist.
    """
    answer = parsed(reply)
    if 200 <= reply.status < 300:
        ids = _accepted(answer)
        if ids:
            return Created(ids[0], tuple(ids[1:]))
        is_refused = _is_refused_in_success(answer)
    else:
        is_refused = _is_refused(reply, answer)
    if not is_refused:
        raise error_of(OutcomeUnknown, reply, _what_is_unknown(reply, answer))
    # A 429 without words is no proof: it may have been cut off before it said what became of it.
    busy = reply.status == 429 and message_of(answer) != "" and not is_about_quota(answer)
    resend = busy and fold(code_of(answer) or "") != fold("quota_not_enough")
    raise error_of(Refused, reply, refusal(reply), resend=resend)


def _accepted(answer: Any) -> list[str]:
    """The ids in an answer that says nothing against it, best first."""
    if code_of(answer) is not None or says_error(answer):
        return []
    return ids_in(answer) or (lone_request_ids(answer) if _is_success(answer) else [])


def _is_success(answer: Any) -> bool:
    """Whether an answer is a success: it says so, or it says nothing in words and no state of something that ended."""
    fields = Fields(answer)
    has_ended = state_of(fields.first(STATE_NAMES)) in {"failed", "blocked"}
    message = message_of(answer)
    return not has_ended and (says_success(answer) or not message or state_of(message) is not None)


def _is_refused_in_success(answer: Any) -> bool:
    """Whether a 200 is a refusal: it has one of the codes for that, and names no id of a task that may be there."""
    if ids_in(answer) or words_in(answer) & _UNKNOWN_CODES:
        return False
    code = code_of(answer) or ""
    if re.fullmatch(r"-?[0-9.]+", code):  # a number speaks for the whole answer
        return code in map(str, REFUSED_STATUS)
    return fold(code) in _REFUSED_IN_SUCCESS or is_about_quota(answer)


def _is_refused(reply: Reply, answer: Any) -> bool:
    code, words = fold(code_of(answer) or ""), words_in(answer)
    if code in _REFUSED_CODES:
        return True
    if words & _UNKNOWN_CODES or (code == fold("fail_to_fetch_task") and reply.status >= 500):
        return False
    if 400 <= reply.status < 500 and ids_in(answer, of_task_only=not says_success(answer)) and not says_error(answer):
        return False  # it names a task that may be there
    if is_about_quota(answer) and (reply.status == 503 or 400 <= reply.status < 500):
        return reply.status != 408
    if reply.status == 503:
        error = Fields(Fields(answer).get("error"))
        return bool(error.get("type") == "new_api_error")
    return reply.status in NOTHING_DONE or reply.status in REFUSED_STATUS


def _what_is_unknown(reply: Reply, answer: Any) -> str:
    if reply.status >= 300:
        kind = {"html": ", with a web page (HTML)", "text": ", with plain text"}.get(kind_of(reply), "")
        return f"The gateway answered the create with status {reply.status}{kind}"
    if kind_of(reply) == "html":
        return "The gateway answered the create with a web page (HTML) and no task id"
    code = code_of(answer)
    what = "no task id that can be read"
    if code is not None:
        what = f"the code {code}" if is_plain_code(code) else "a code that says nothing about it"
    return f"The gateway answered the create with {what}"
