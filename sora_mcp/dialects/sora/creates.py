"""Reading the answer to a create: accepted, refused (nothing was created), or unknown (a job may exist).

Misreading one costs money, so only what the sources list is a refusal (inferred from the pages, new-api's source, and
its siblings' documentation), and everything that is not listed leaves the outcome unknown.
"""

from __future__ import annotations

import re
from typing import Any

from sora_mcp.core.errors import OutcomeUnknown, Refused
from sora_mcp.core.tasks import is_plain_code
from sora_mcp.dialects.protocol import Created
from sora_mcp.dialects.replies import UNPROCESSED_STATUSES, Reply, content_format, parse_json
from sora_mcp.dialects.sora.errors import (
    code_of,
    codes_in,
    is_about_quota,
    make_error,
    message_of,
    refusal_message,
    says_error,
    says_success,
)
from sora_mcp.dialects.sora.fields import STATE_FIELDS, Fields, fold, state_of
from sora_mcp.dialects.sora.ids import ids_in, lone_request_ids

REFUSED_STATUS = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 429})
"""Statuses that mean: nothing was created. As the `code` in a 200 they mean the same, if there is no id."""

_REFUSED_CODES = frozenset(map(fold, ("build_request_failed",)))
"""Codes that mean: nothing was created, with any status."""
_REFUSED_CODES_IN_SUCCESS = _REFUSED_CODES | frozenset(
    map(fold, ("quota_not_enough", "task_not_exist", "invalid_request", "channel_not_found"))
)
"""Codes that mean: nothing was created, even in a 200, if there is no id."""
_UNKNOWN_OUTCOME_CODES = frozenset(map(fold, ("do_request_failed", "insert_task_failed")))
"""Codes of errors that occur after the job was passed on, or exists."""


def read_created(reply: Reply) -> Created:
    """Return the task in the answer to a create.

    Raises Refused if nothing was created, OutcomeUnknown if a job may exist.
    """
    answer = parse_json(reply)
    if 200 <= reply.status < 300:
        ids = _accepted(answer)
        if ids:
            return Created(ids[0], tuple(ids[1:]))
        is_refused = _is_refused_in_success(answer)
    else:
        is_refused = _is_refused(reply, answer)
    if not is_refused:
        raise make_error(OutcomeUnknown, reply, _unknown_message(reply, answer))
    # A 429 without a message is no proof: it may have been cut off before it said what happened to the request.
    is_busy = reply.status == 429 and message_of(answer) != "" and not is_about_quota(answer)
    resend = is_busy and fold(code_of(answer) or "") != fold("quota_not_enough")
    raise make_error(Refused, reply, refusal_message(reply), resend=resend)


def _accepted(answer: Any) -> list[str]:
    """Return the ids in an answer that is not an error, best first."""
    if code_of(answer) is not None or says_error(answer):
        return []
    return ids_in(answer) or (lone_request_ids(answer) if _is_success(answer) else [])


def _is_success(answer: Any) -> bool:
    """Whether an answer is a success: it says so, or it holds no message and no state of a failed task."""
    fields = Fields(answer)
    has_ended = state_of(fields.first(STATE_FIELDS)) in {"failed", "blocked"}
    message = message_of(answer)
    return not has_ended and (says_success(answer) or not message or state_of(message) is not None)


def _is_refused_in_success(answer: Any) -> bool:
    """Whether a 200 is a refusal: it has one of the codes for that, and no id of a task that may exist."""
    if ids_in(answer) or codes_in(answer) & _UNKNOWN_OUTCOME_CODES:
        return False
    code = code_of(answer) or ""
    if re.fullmatch(r"-?[0-9.]+", code):  # a number applies to the whole answer
        return code in map(str, REFUSED_STATUS)
    return fold(code) in _REFUSED_CODES_IN_SUCCESS or is_about_quota(answer)


def _is_refused(reply: Reply, answer: Any) -> bool:
    code, codes = fold(code_of(answer) or ""), codes_in(answer)
    if code in _REFUSED_CODES:
        return True
    if codes & _UNKNOWN_OUTCOME_CODES or (code == fold("fail_to_fetch_task") and reply.status >= 500):
        return False
    if 400 <= reply.status < 500 and ids_in(answer, task_ids_only=not says_success(answer)) and not says_error(answer):
        return False  # it names a task that may exist
    if is_about_quota(answer) and (reply.status == 503 or 400 <= reply.status < 500):
        return reply.status != 408
    if reply.status == 503:
        error = Fields(Fields(answer).get("error"))
        return bool(error.get("type") == "new_api_error")
    return reply.status in UNPROCESSED_STATUSES or reply.status in REFUSED_STATUS


def _unknown_message(reply: Reply, answer: Any) -> str:
    if reply.status >= 300:
        note = {"html": ", with a web page (HTML)", "text": ", with plain text"}.get(content_format(reply), "")
        return f"The gateway answered the create with status {reply.status}{note}"
    if content_format(reply) == "html":
        return "The gateway answered the create with a web page (HTML) and no task id"
    code = code_of(answer)
    detail = "no task id that can be read"
    if code is not None:
        detail = f"the code {code}" if is_plain_code(code) else "a code that says nothing about it"
    return f"The gateway answered the create with {detail}"
