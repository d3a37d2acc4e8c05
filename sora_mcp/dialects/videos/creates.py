"""What an answer to a create means: accepted, refused (nothing was created), or unknown (a job may exist).

A failed job answers 4xx or 5xx with its object, so an id that can be read counts whatever the status is. A refusal is
only what the servers' sources have before a job is made, whole and without an id; the rest is unknown: it may have been
paid for.
"""

from __future__ import annotations

from typing import Any

from sora_mcp.core.advice import Settle
from sora_mcp.core.errors import OutcomeUnknown, Refused
from sora_mcp.dialects.protocol import Created
from sora_mcp.dialects.replies import NOTHING_DONE, Reply, kind_of, parsed, refusal
from sora_mcp.dialects.videos.replies import (
    WHO,
    codes_in,
    error_of,
    id_of,
    ids_in,
    is_about_quota,
    is_video,
    message_of,
    objects_in,
    says_error,
)

REFUSED_STATUS = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 429})
"""Statuses that mean, without an id: nothing was created."""

_SENT_ON = frozenset({"do_request_failed", "insert_task_failed", "fail_to_fetch_task"})
"""Codes of new-api's errors that come after the job was sent on, or exists."""


def read_created(reply: Reply) -> Created:
    """The task in the answer to a create. Raises Refused where nothing was created, OutcomeUnknown wherever a job may
    exist."""
    answer = parsed(reply)
    ids = ids_in(answer)
    if ids and _is_accepted(reply, answer):
        first = next((id_of(value) for value in objects_in(answer) if is_video(value)), None) or ids[0]
        return Created(first, tuple(each for each in ids if each != first))
    if not _is_refused(reply, answer, ids):
        raise error_of(OutcomeUnknown, reply, _what_is_unknown(reply), Settle())
    busy = reply.status == 429 and message_of(answer) != "" and not is_about_quota(answer)
    error = error_of(
        Refused, reply, refusal(reply, WHO), may_work_later=reply.status in {429, 503} and not is_about_quota(answer)
    )
    error.may_be_sent_again = busy
    raise error


def _is_accepted(reply: Reply, answer: Any) -> bool:
    """Whether the id in an answer is a video's: its object says so, or a success holds nothing that speaks against."""
    if any(is_video(value) for value in objects_in(answer)):
        return True
    return 200 <= reply.status < 300 and not says_error(answer)


def _is_refused(reply: Reply, answer: Any, ids: list[str]) -> bool:
    if ids or reply.content is None or not _SENT_ON.isdisjoint(codes_in(answer)):
        return False
    if reply.status == 503:
        return "new_api_error" in codes_in(answer)  # it has no channel for the model
    if kind_of(reply) == "json" and not says_error(answer) and not message_of(answer) and answer not in ({}, []):
        return False  # what it means stands in no source
    return reply.status in NOTHING_DONE or reply.status in REFUSED_STATUS


def _what_is_unknown(reply: Reply) -> str:
    kind = {"html": ", with a web page (HTML)", "text": ", with plain text"}.get(kind_of(reply), "")
    if reply.status < 300 and not kind:
        return "The server answered the create with no id that can be read."
    return f"The server answered the create with status {reply.status}{kind}."
