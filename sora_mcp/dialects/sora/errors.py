"""Answers that are errors: their codes and messages, and the exceptions made of them.

The family has two shapes, `{"code", "message", "data"}` and `{"error": {"message", "type"}}`; frameworks in between
have `{"detail"}`, `{"msg"}` and `{"error": "…"}`; proxies have pages. `creates` decides what one means for a paid call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from sora_mcp.core.advice import Advice, AskUser, CheckKey, Do, Setting, Settle, TellUser, TryAgain
from sora_mcp.core.errors import BadReply, GatewayError, OutcomeUnknown, Refused
from sora_mcp.core.tasks import clean, is_plain_code
from sora_mcp.dialects.replies import Reply, content_format, excerpt, header, parse_json, parse_nested_json, retry_after
from sora_mcp.dialects.sora.fields import BLANK_VALUES, Fields, fold
from sora_mcp.dialects.sora.urls import is_http

REDIRECTS = frozenset({301, 302, 303, 307, 308})

QUOTA_CODES = frozenset(map(fold, ("insufficient_quota", "insufficient_user_quota", "billing_hard_limit")))
"""Codes and types that mean: the balance is used up."""
_TOP_UP_CODES = QUOTA_CODES | {fold("quota_not_enough"), "402"}

_ADDRESS = Setting("base_url")
_TOP_UP = (AskUser("top up the balance at the gateway"), TryAgain())
_CHANGE = (Do("Change the arguments as the gateway says, then try again."),)
_NO_ENDPOINT = (AskUser(("check ", _ADDRESS, ": this address has no Sora endpoint")),)
_ADVICE: dict[str, tuple[Advice, ...]] = {
    "build_request_failed": (TellUser("the gateway cannot build such a job now"),),
    "invalid_request": _CHANGE,
    "400": _CHANGE,
    "401": (CheckKey(),),
    "402": _TOP_UP,
    "403": (AskUser("check the key's rights and balance at the gateway"),),
    "404": _NO_ENDPOINT,
    "405": _NO_ENDPOINT,
    "410": (AskUser("name another gateway: this one says the endpoint is gone for good"),),
    "413": (Do("Send a smaller image or a shorter prompt."),),
    "422": _CHANGE,
    "429": (TryAgain(),),
    "503": (
        Do("The gateway has no channel for this model now."),
        TryAgain(),
        AskUser("check at the gateway if that does not help"),
    ),
}
_ADVICE_BY_CODE = {fold(word): advice for word, advice in _ADVICE.items()}

_PERMANENT_CODES = frozenset({"401", "402", "403"})
"""Codes in a 200 that mean: this key will get the same answer again."""

_FORMAT_NAMES = {"html": "a web page (HTML)", "text": "plain text"}
"""Names for the formats of answers that are not JSON."""


def code_of(answer: Any) -> str | None:
    """Return the `code` of a task reply or task error; None if there is none or it means success."""
    code = Fields(answer).get("code")
    if isinstance(code, list | dict):
        return "?"  # not a code, and certainly not one for success
    text = code.strip() if isinstance(code, str) else json.dumps(code)
    return None if text.lower() in {"", "null", "0", "200", "success"} else text


def says_success(answer: Any) -> bool:
    """Whether an answer says explicitly that it is a success."""
    fields = Fields(answer)
    is_code = code_of(answer) is None and fields.get("code") not in (None, "")
    return is_code or fields.get("success") is True


def says_error(answer: Any) -> bool:
    """Whether an answer says that something failed, whatever its code."""
    fields = Fields(answer)
    success = fields.get("success")
    is_failure = isinstance(success, bool | int | str) and fold(str(success)) in {"false", "0"}
    return is_failure or fields.get("error") not in (None, "", False)


def codes_in(answer: Any) -> set[str]:
    """Return the `code`s and `type`s of an error, folded; never anything out of a message."""
    fields = Fields(answer)
    objects = [fields, Fields(fields.get("error")), Fields(fields.get("detail"))]
    values = [each.get(name) for each in objects for name in ("code", "type")]
    return {fold(value[:100]) for value in values if isinstance(value, str)}


def is_about_quota(answer: Any) -> bool:
    """Whether an error says that the balance is used up."""
    return bool(codes_in(answer) & QUOTA_CODES)


def message_of(answer: Any) -> str:
    """Return the message of an error, made safe to show: data to quote, never instructions."""
    fields = Fields(answer)
    values = (fields.get(name) for name in ("error", "message", "msg", "detail"))
    return next((text for value in values if (text := text_of(value))), "")


def text_of(value: Any) -> str:
    """Return the text in a field that holds a text, an object with a `message`, or a list of these; empty if none."""
    return next(
        (text for each in _texts(value, 3) if (text := clean(each, 300)) and fold(text) not in BLANK_VALUES), ""
    )


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        inside = parse_nested_json(value)
        if isinstance(inside, list | dict) and depth:
            yield from _texts(inside, depth - 1)
        yield value
    elif isinstance(value, list) and depth:
        for each in value[:8]:
            yield from _texts(each, depth - 1)
    elif isinstance(value, dict) and depth:
        fields = Fields(value)
        for name in ("message", "msg", "detail", "reason", "error"):
            yield from _texts(fields.get(name), depth - 1)


def display_code(answer: Any) -> str:
    """Return the code of an error as data, for results and the ledger: a plain word or number, cleaned and capped."""
    fields = Fields(answer)
    error = Fields(fields.get("error"))
    values = (code_of(answer), error.get("code"), error.get("type"))
    texts = (str(value) for value in values if isinstance(value, str | int) and not isinstance(value, bool))
    return next((text for each in texts if (text := clean(each, 60))), "")


def refusal_message(reply: Reply) -> str:
    """Return the message for an answer that is a refusal."""
    if _is_redirect(reply):
        address = _redirect_target(reply)
        target = address if _is_same_host(reply, address) else f'"{address}"' if address else "another address"
        return f"The gateway redirects ({reply.status}) to {target}"
    code = code_of(parse_json(reply))
    if is_plain_code(code):
        return f"The gateway refused the request ({code}, status {reply.status})"
    if (content := content_format(reply)) in {"html", "text"}:
        page = _FORMAT_NAMES[content]
        return f"The request was refused with {page}, not in the gateway's format (status {reply.status})"
    return f"The gateway refused the request (status {reply.status})"


def make_error(
    error_type: type[GatewayError], reply: Reply, message: str, *, advice: tuple[Advice, ...] = (), resend: bool = False
) -> GatewayError:
    """Make an error of that type, with everything that the answer says. `resend`: `GatewayError.may_be_sent_again`."""
    answer = parse_json(reply)
    is_unknown = error_type is OutcomeUnknown
    error = error_type(
        f"{message}.",
        *(advice or ((Settle(),) if is_unknown else _advice(reply, answer))),
        http_status=reply.status,
        retry_after_s=None if is_unknown else retry_after(reply),  # resending after a wait would pay twice
        upstream=message_of(answer),
        code=display_code(answer),
        answer=excerpt(reply),
    )
    error.may_be_sent_again = resend
    if isinstance(error, Refused):
        error.may_work_later = _may_work_later(reply, answer)
    return error


def free_error(reply: Reply, *, retry_advice: tuple[Advice, ...] = (TryAgain(),)) -> GatewayError:
    """Return the error of a request that costs nothing: the gateway refuses it for good, or it may work later.

    `retry_advice` says what to do if it may work later.
    """
    answer = parse_json(reply)
    content, code = content_format(reply), code_of(answer)
    may_work_later = (
        reply.status in {408, 429} or reply.status >= 500 or (reply.status < 300 and code not in _PERMANENT_CODES)
    )
    if not may_work_later or is_about_quota(answer):
        return make_error(Refused, reply, refusal_message(reply))
    if content in {"html", "text"}:
        message = f"A proxy in front of the gateway answered with {_FORMAT_NAMES[content]} (status {reply.status})"
    elif is_plain_code(code):
        message = f"The gateway answered with the error {code} (status {reply.status})"
    else:
        message = f"The gateway answered with an error (status {reply.status})"
    return make_error(BadReply, reply, message, advice=retry_advice)


def _may_work_later(reply: Reply, answer: Any) -> bool:
    """Whether what was refused may be accepted later, unchanged."""
    if _needs_top_up(reply, answer):
        return False
    return reply.status in {429, 503} or (reply.status < 300 and code_of(answer) == "429")


def _needs_top_up(reply: Reply, answer: Any) -> bool:
    code = fold(code_of(answer) or "")
    return is_about_quota(answer) or code in _TOP_UP_CODES or reply.status == 402


def _advice(reply: Reply, answer: Any) -> tuple[Advice, ...]:
    if _is_same_host(reply, _redirect_target(reply)):
        return (AskUser(("set ", _ADDRESS, " to that address: the key never follows a redirect")),)
    if 300 <= reply.status < 400:
        return (AskUser(("check ", _ADDRESS, ": this address does not answer requests itself")),)
    if _needs_top_up(reply, answer):
        return _TOP_UP
    codes = (fold(code_of(answer) or ""), str(reply.status))
    return next((_ADVICE_BY_CODE[code] for code in codes if code in _ADVICE_BY_CODE), (TryAgain(),))


def _is_redirect(reply: Reply) -> bool:
    return reply.status in REDIRECTS and bool(header(reply, "location").strip())


def _is_same_host(reply: Reply, address: str) -> bool:
    """Whether an address is on the same host as the request, and as safe: another host may belong to anyone, and a user
    who set it as the base address would send the key there."""
    try:
        origin, target = urlsplit(reply.url), urlsplit(address)
        is_same = target.hostname is not None and target.hostname == origin.hostname
    except ValueError:
        return False
    return is_same and (target.scheme == "https" or origin.scheme == "http")


def _redirect_target(reply: Reply) -> str:
    """Return the base address that a redirect points to; empty if it is relative, or has a user or a password."""
    address = re.split(r"[?#]", header(reply, "location"))[0].rstrip("/")
    if not _is_redirect(reply) or not is_http(address) or "@" in address:
        return ""
    return clean(re.sub(r"(/sora)?/v1/(videos|files|models)(/[^/]*)?$", "", address), 200)
