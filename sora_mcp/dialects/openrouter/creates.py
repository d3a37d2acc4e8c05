"""What an answer to a create means: accepted, refused (nothing was created), or unknown (a job may exist).

An id that can be read counts, whatever the status is. A refusal is only what OpenRouter documents as one that comes
before a job is made: 400, 401, 402, 403, 404, 413 and 429, without an id; and a redirect that asks for the same request
at another address. It documents 499, 500 and 503 as well, and of these it does not say when they come; like everything
that it does not document they may have been paid for.
"""

from __future__ import annotations

from typing import Any

from sora_mcp.core.advice import Settle
from sora_mcp.core.errors import OutcomeUnknown, Refused
from sora_mcp.dialects.openrouter.replies import WHO, code_of, error_in, error_of, id_of, job_in, message_of
from sora_mcp.dialects.protocol import Created
from sora_mcp.dialects.replies import Reply, kind_of, parsed, refusal

REFUSED_STATUS = frozenset({400, 401, 402, 403, 404, 413, 429})
MOVED = frozenset({301, 307, 308})
"""Nothing was done with the request (RFC 9110, 15.4); 302 and 303 may follow upon something that was."""


def read_created(reply: Reply) -> Created:
    """The job in the answer to a create. Raises Refused where nothing was created, OutcomeUnknown wherever a job may
    exist."""
    answer = parsed(reply)
    job = job_in(answer)
    job_id = id_of(job)
    if job is not None and job_id is not None and _is_accepted(reply, job, answer):
        return Created(job_id)
    if job_id is not None or not _is_refused(reply, answer):
        raise error_of(OutcomeUnknown, reply, _what_is_unknown(reply), Settle())
    error = error_of(Refused, reply, refusal(reply, WHO))
    if isinstance(error, Refused):
        error.may_work_later = reply.status == 429
        error.may_be_sent_again = reply.status == 429 and message_of(answer) != ""
    raise error


def _is_accepted(reply: Reply, job: dict[str, Any], answer: Any) -> bool:
    """Whether an id is a job's: it says how it stands, or it came with a success and nothing speaks against it."""
    if isinstance(job.get("status"), str):
        return True
    return 200 <= reply.status < 300 and not error_in(answer)


def _is_refused(reply: Reply, answer: Any) -> bool:
    if reply.status in MOVED:
        return job_in(answer) is None
    if reply.content is None or reply.status not in REFUSED_STATUS:
        return False
    code = code_of(answer)
    if code.isdecimal() and int(code) not in REFUSED_STATUS:
        return False  # the gateway passes on what something behind it said
    return bool(error_in(answer) or message_of(answer)) or answer in (None, {}, [])


def _what_is_unknown(reply: Reply) -> str:
    page = {"html": ", with a web page (HTML)", "text": ", with plain text"}.get(kind_of(reply), "")
    if reply.status < 300 and not page:
        return "The gateway answered the create with no id that can be read."
    return f"The gateway answered the create with status {reply.status}{page}."
