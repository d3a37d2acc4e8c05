"""One answer of the gateway: its JSON, its headers, an excerpt to show, and the errors of plain refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from msgspec import Struct

from sora_mcp.core.advice import Do, SeeList, TryAgain
from sora_mcp.core.errors import BadReply, GatewayError, NotFound, Refused, SoraError
from sora_mcp.core.tasks import clean

MAX_RETRY_AFTER_S = 86_400
"""Seconds: the longest wait that a gateway may ask for (inferred); a longer one is ignored."""

MAX_EXCERPT_LENGTH = 200
"""Characters stored of an answer that cannot be read."""

UNPROCESSED_STATUSES = frozenset(range(300, 400)) - {303}
"""Redirects, which are not followed: the request was not processed. (303 leads to a result: RFC 9110, 15.4.4.)"""


class Reply(Struct, frozen=True):
    """One answer of the gateway. `content` is None if it was too large or cut off; `fragment` is its beginning then.

    `now` is the unix time of its arrival; needed if Retry-After is a date. `url` is the address of the request.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes | None
    now: float = 0.0
    fragment: bytes = b""
    url: str = ""


def parse_json(reply: Reply) -> Any:
    """Return a reply's JSON, None if it cannot be read: JSON that is exchanged is UTF-8 (RFC 8259 §8.1)."""
    if reply.content is None:
        return None
    try:
        return json.loads(reply.content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def parse_nested_json(value: object) -> Any:
    """Return the value of JSON inside a text (several new-api versions, `resultJson`); anything else unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "[", '"'}:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def content_format(reply: Reply) -> Literal["json", "html", "text", "nothing"]:
    """Return the format of an answer. Gateways answer in JSON: a page or a text comes from something in front."""
    head = _text(reply).lstrip("\ufeff \t\r\n")[:256].lower()
    if not head:
        return "nothing"
    if parse_json(reply) is not None or head[0] in "{[":
        return "json"
    is_html = head.startswith(("<!doctype", "<html", "<head", "<body")) or "text/html" in header(reply, "content-type")
    return "html" if is_html else "text"


def excerpt(reply: Reply) -> str:
    """Return the first 200 characters of an answer, made safe to show: data to quote, never instructions."""
    return clean(_text(reply), MAX_EXCERPT_LENGTH)


def _text(reply: Reply) -> str:
    raw = reply.fragment if reply.content is None else reply.content
    return raw[: MAX_EXCERPT_LENGTH * 16].decode("utf-8-sig", "replace")


def header(reply: Reply, name: str) -> str:
    """Return the value of a header, whatever the case of its name; empty if it is missing."""
    return next((value for key, value in reply.headers.items() if key.lower() == name), "")


def retry_after(reply: Reply) -> float | None:
    """Seconds from now, from a Retry-After header (RFC 9110 §10.2.3: seconds or a date); None if absent or absurd."""
    text = header(reply, "retry-after").strip()
    try:
        is_number = re.fullmatch(r"[0-9]{1,9}", text)
        seconds = float(text) if is_number else round(parsedate_to_datetime(text).timestamp() - reply.now)
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if seconds <= MAX_RETRY_AFTER_S else None


def clock_skew(reply: Reply) -> float | None:
    """Seconds by which our clock was ahead of the gateway's (RFC 9110 §6.6.1 Date); None if it gives no date."""
    try:
        return round(reply.now - parsedate_to_datetime(header(reply, "date")).timestamp())
    except (ValueError, OverflowError):
        return None


# --- errors ----------------------------------------------------------------------------------------
#
# Shared by dialects with plain errors: `upstream` is the noun for it in the sentences (`server`, `gateway`), and
# `make_error` makes an error of a given type with everything that the answer says.

ErrorFactory = Callable[..., GatewayError]
_NOT_AFFECTED = Do("The video is not affected.")


def refusal_message(reply: Reply, upstream: str) -> str:
    """Return the message for an answer that is a refusal."""
    if 300 <= reply.status < 400:
        return f"The {upstream} redirects ({reply.status}) to another address."
    return f"The {upstream} refused the request (status {reply.status})."


def free_error(reply: Reply, upstream: str, make_error: ErrorFactory) -> GatewayError:
    """Return the error of a request that costs nothing: it is refused for good, or it may work later."""
    if reply.status in {408, 409, 425, 429} or reply.status >= 500 or reply.status < 300:
        page = {"html": " with a web page", "text": " with plain text"}.get(content_format(reply), "")
        return make_error(BadReply, reply, f"The {upstream} answered{page} (status {reply.status}).", TryAgain())
    return make_error(Refused, reply, refusal_message(reply, upstream))


def query_error(reply: Reply, upstream: str, make_error: ErrorFactory, *, is_unknown: bool = False) -> SoraError:
    """Return the error of a query whose answer holds no task; `is_unknown`: it says explicitly that there is none."""
    is_page = content_format(reply) in {"html", "text"}  # a proxy's 404 says nothing about a video
    if is_unknown or (reply.status == 404 and not is_page):
        return NotFound(f"The {upstream} knows no video with this id.", SeeList())
    if reply.status == 404:
        message = f"A proxy in front of the {upstream} answered that there is nothing there (status 404)."
        return make_error(BadReply, reply, message, _NOT_AFFECTED, TryAgain())
    if 200 <= reply.status < 300:
        message = f"The {upstream} answered a query with something that is not a video."
        return make_error(BadReply, reply, message, _NOT_AFFECTED, TryAgain())
    return free_error(reply, upstream, make_error)
