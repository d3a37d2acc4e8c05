"""One answer of the gateway: its JSON, its headers, what can be shown of it, and what to say of a plain no."""

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

MAX_RETRY_AFTER = 86_400
"""Seconds: the longest wait that a gateway may ask for (inferred); more is read as no answer."""

MAX_ANSWER = 200
"""Characters that are kept of an answer which cannot be read."""

NOTHING_DONE = frozenset(range(300, 400)) - {303}
"""Redirects, which are not followed: nothing was done. (303 leads to what was done: RFC 9110, 15.4.4.)"""


class Reply(Struct, frozen=True):
    """One answer of the gateway. `content` is None where it was too large or was cut off; `fragment` is what came then.

    `now` is the unix second when it came; needed where Retry-After is a date. `asked` is the address that was asked.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes | None
    now: float = 0.0
    fragment: bytes = b""
    asked: str = ""


def parsed(reply: Reply) -> Any:
    """What a reply says, None where that cannot be read: JSON that is exchanged is UTF-8 (RFC 8259 §8.1)."""
    if reply.content is None:
        return None
    try:
        return json.loads(reply.content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def from_text(value: object) -> Any:
    """What JSON inside a text says (several new-api versions, `resultJson`); anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "[", '"'}:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def kind_of(reply: Reply) -> Literal["json", "html", "text", "nothing"]:
    """What an answer is made of. Gateways answer in JSON: a page or a text comes from something in front of them."""
    head = _text(reply).lstrip("\ufeff \t\r\n")[:256].lower()
    if not head:
        return "nothing"
    if parsed(reply) is not None or head[0] in "{[":
        return "json"
    is_html = head.startswith(("<!doctype", "<html", "<head", "<body")) or "text/html" in header(reply, "content-type")
    return "html" if is_html else "text"


def beginning(reply: Reply) -> str:
    """The first 200 characters of an answer, made safe to show: data to quote, never instructions."""
    return clean(_text(reply), MAX_ANSWER)


def _text(reply: Reply) -> str:
    raw = reply.fragment if reply.content is None else reply.content
    return raw[: MAX_ANSWER * 16].decode("utf-8-sig", "replace")


def header(reply: Reply, name: str) -> str:
    """The value of a header, whatever the case of its name; empty where it is missing."""
    return next((value for key, value in reply.headers.items() if key.lower() == name), "")


def retry_after(reply: Reply) -> float | None:
    """Seconds from now, from a Retry-After header (RFC 9110 §10.2.3: seconds or a date); None if absent or absurd."""
    text = header(reply, "retry-after").strip()
    try:
        is_number = re.fullmatch(r"[0-9]{1,9}", text)
        seconds = float(text) if is_number else round(parsedate_to_datetime(text).timestamp() - reply.now)
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if seconds <= MAX_RETRY_AFTER else None


def clock_skew(reply: Reply) -> float | None:
    """Seconds by which our clock was ahead of the gateway's (RFC 9110 §6.6.1 Date); None where it gives no date."""
    try:
        return round(reply.now - parsedate_to_datetime(header(reply, "date")).timestamp())
    except (ValueError, OverflowError):
        return None


# --- where it is not what was asked for ------------------------------------------------------------
#
# For dialects that say so in plain words: `who` answered (`server`, `gateway`) stands in the sentences, and `error_of`
# makes an error of a kind with everything that the answer says.

ErrorOf = Callable[..., GatewayError]
_NOT_AFFECTED = Do("The video is not affected.")


def refusal(reply: Reply, who: str) -> str:
    """What to say of an answer that is a no."""
    if 300 <= reply.status < 400:
        return f"The {who} redirects ({reply.status}) to another address."
    return f"The {who} refused the request (status {reply.status})."


def free_error(reply: Reply, who: str, error_of: ErrorOf) -> GatewayError:
    """The error of a request that costs nothing: it is refused for good, or it may work later."""
    if reply.status in {408, 409, 425, 429} or reply.status >= 500 or reply.status < 300:
        page = {"html": " with a web page", "text": " with plain text"}.get(kind_of(reply), "")
        return error_of(BadReply, reply, f"The {who} answered{page} (status {reply.status}).", TryAgain())
    return error_of(Refused, reply, refusal(reply, who))


def no_task(reply: Reply, who: str, error_of: ErrorOf, *, is_unknown: bool = False) -> SoraError:
    """The error of a query whose answer says nothing of a task; `is_unknown`: it says in words that there is none."""
    is_page = kind_of(reply) in {"html", "text"}  # a proxy's 404 says nothing about a video
    if is_unknown or (reply.status == 404 and not is_page):
        return NotFound(f"The {who} knows no video with this id.", SeeList())
    if reply.status == 404:
        message = f"A proxy in front of the {who} says that there is nothing (status 404)."
        return error_of(BadReply, reply, message, _NOT_AFFECTED, TryAgain())
    if 200 <= reply.status < 300:
        message = f"The {who} answered a query with something that is not a video."
        return error_of(BadReply, reply, message, _NOT_AFFECTED, TryAgain())
    return free_error(reply, who, error_of)
