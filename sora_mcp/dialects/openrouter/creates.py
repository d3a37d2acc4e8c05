"""Reading the answer to a create: accepted, refused (nothing was created), or unknown (a job may exist).

An id that can be read counts, whatever the status is. A refusal is only what OpenRouter documents as an answer before a
job is made: 400, 401, 402, 403, 404, 413 and 429, without an id; and a redirect that asks for the same request at
another address. It documents 499, 500 and 503 as well, but not when they occur; like everything that it does not
document they may have been paid for.
"""

from __future__ import annotations

from typing import Any

from sora_mcp.core.advice import Settle
from sora_mcp.core.errors import OutcomeUnknown, Refused
from sora_mcp.dialects.openrouter.replies import UPSTREAM_NOUN, code_of, error_in, id_of, job_in, make_error, message_of
from sora_mcp.dialects.protocol import Created
from sora_mcp.dialects.replies import Reply, content_format, parse_json, refusal_message

REFUSED_STATUS = frozenset({400, 401, 402, 403, 404, 413, 429})
MOVED_STATUSES = frozenset({301, 307, 308})
"""The request was not processed (RFC 9110, 15.4); 302 and 303 may come after it was."""


def read_created(reply: Reply) -> Created:
    """Return the job in the answer to a create. Raises Refused if nothing was created, OutcomeUnknown if a job may
    exist."""
    answer = parse_json(reply)
    job = job_in(answer)
    job_id = id_of(job)
    if job is not None and job_id is not None and _is_accepted(reply, job, answer):
        return Created(job_id)
    if job_id is not None or not _is_refused(reply, answer):
        raise make_error(OutcomeUnknown, reply, _unknown_message(reply), Settle())
    error = make_error(Refused, reply, refusal_message(reply, UPSTREAM_NOUN))
    if isinstance(error, Refused):
        error.may_work_later = reply.status == 429
        error.may_be_sent_again = reply.status == 429 and message_of(answer) != ""
    raise error


def _is_accepted(reply: Reply, job: dict[str, Any], answer: Any) -> bool:
    """Whether an id is a job's: its object has a state, or the answer is a success without an error."""
    if isinstance(job.get("status"), str):
        return True
    return 200 <= reply.status < 300 and not error_in(answer)


def _is_refused(reply: Reply, answer: Any) -> bool:
    if reply.status in MOVED_STATUSES:
        return job_in(answer) is None
    if reply.content is None or reply.status not in REFUSED_STATUS:
        return False
    code = code_of(answer)
    if code.isdecimal() and int(code) not in REFUSED_STATUS:
        return False  # the gateway passes on the error of a provider behind it
    return bool(error_in(answer) or message_of(answer)) or answer in (None, {}, [])


def _unknown_message(reply: Reply) -> str:
    page = {"html": ", with a web page (HTML)", "text": ", with plain text"}.get(content_format(reply), "")
    if reply.status < 300 and not page:
        return "The gateway answered the create with no id that can be read."
    return f"The gateway answered the create with status {reply.status}{page}."
