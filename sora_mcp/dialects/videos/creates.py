"""Reading the answer to a create: accepted, refused (nothing was created), or unknown (a job may exist).

A failed job answers 4xx or 5xx with its object, so an id that can be read counts whatever the status is. A refusal is
only an answer that the servers' sources give before a job is made, complete and without an id; the rest is unknown: it
may have been paid for.
"""

from __future__ import annotations

from typing import Any

from sora_mcp.core.advice import Settle
from sora_mcp.core.errors import OutcomeUnknown, Refused
from sora_mcp.dialects.protocol import Created
from sora_mcp.dialects.replies import UNPROCESSED_STATUSES, Reply, content_format, parse_json, refusal_message
from sora_mcp.dialects.videos.replies import (
    UPSTREAM_NOUN,
    codes_in,
    id_of,
    ids_in,
    is_about_quota,
    is_video,
    make_error,
    message_of,
    objects_in,
    says_error,
)

REFUSED_STATUS = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 429})
"""Statuses that mean, without an id: nothing was created."""

_UNKNOWN_OUTCOME_CODES = frozenset({"do_request_failed", "insert_task_failed", "fail_to_fetch_task"})
"""Codes of new-api's errors that occur after the job was passed on, or exists."""


def read_created(reply: Reply) -> Created:
    """Return the task in the answer to a create. Raises Refused if nothing was created, OutcomeUnknown if a job may
    exist."""
    answer = parse_json(reply)
    ids = ids_in(answer)
    if ids and _is_accepted(reply, answer):
        first = next((id_of(value) for value in objects_in(answer) if is_video(value)), None) or ids[0]
        return Created(first, tuple(each for each in ids if each != first))
    if not _is_refused(reply, answer, ids):
        raise make_error(OutcomeUnknown, reply, _unknown_message(reply), Settle())
    is_busy = reply.status == 429 and message_of(answer) != "" and not is_about_quota(answer)
    error = make_error(
        Refused,
        reply,
        refusal_message(reply, UPSTREAM_NOUN),
        may_work_later=reply.status in {429, 503} and not is_about_quota(answer),
    )
    error.may_be_sent_again = is_busy
    raise error


def _is_accepted(reply: Reply, answer: Any) -> bool:
    """Whether the id in an answer is a video's: its object says so, or the answer is a success without an error."""
    if any(is_video(value) for value in objects_in(answer)):
        return True
    return 200 <= reply.status < 300 and not says_error(answer)


def _is_refused(reply: Reply, answer: Any, ids: list[str]) -> bool:
    if ids or reply.content is None or not _UNKNOWN_OUTCOME_CODES.isdisjoint(codes_in(answer)):
        return False
    if reply.status == 503:
        return "new_api_error" in codes_in(answer)  # it has no channel for the model
    if content_format(reply) == "json" and not says_error(answer) and not message_of(answer) and answer not in ({}, []):
        return False  # no source says what it means
    return reply.status in UNPROCESSED_STATUSES or reply.status in REFUSED_STATUS


def _unknown_message(reply: Reply) -> str:
    note = {"html": ", with a web page (HTML)", "text": ", with plain text"}.get(content_format(reply), "")
    if reply.status < 300 and not note:
        return "The server answered the create with no id that can be read."
    return f"The server answered the create with status {reply.status}{note}."
