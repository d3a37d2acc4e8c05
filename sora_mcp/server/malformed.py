"""Malformed messages and parameters, which the SDK would drop, or refuse without saying what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.dispatcher import as_request_id
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError
from pydantic_core import from_json

NO_MESSAGE = (
    'This is not a JSON-RPC message. Allowed: a single object (not a batch) with "jsonrpc": "2.0", a method,'
    " an id (a string or an integer) and, optionally, params (an object). Nothing was submitted."
)
NO_JSON = "This is not valid JSON. Nothing was submitted."
_NOT_INITIALIZED = (
    "The session is not initialized. Nothing was submitted. Send an initialize request first, then the notification"
    " notifications/initialized."
)
_MAX_PROBLEMS = 5
"""Problems with parameters that one error names."""

# --- messages -------------------------------------------------------------------------------------


def is_message(line: str) -> bool:
    """Return whether a line is a JSON-RPC message that the SDK can read."""
    try:
        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError:
        return False
    # The SDK takes a request with an invalid id for a notification.
    return not (isinstance(message, types.JSONRPCNotification) and '"id"' in line and "id" in from_json(line))


def refuse(line: str) -> list[types.JSONRPCError]:
    """Return the answers to a line that is no message: one for each request that it holds."""
    try:
        value = from_json(line)
    except ValueError:
        request_id = re.search(r'"id"\s*:\s*("[\w.-]{1,64}"|\d{1,15})\s*[,}]', line)
        return [_error(from_json(request_id[1]) if request_id else None, types.PARSE_ERROR, NO_JSON)]
    items = value if isinstance(value, list) and value else [value]
    ids = [as_request_id(item.get("id")) if isinstance(item, dict) else None for item in items if _wants_answer(item)]
    return [_error(each, types.INVALID_REQUEST, NO_MESSAGE) for each in ids]


def _wants_answer(value: object) -> bool:
    """Return whether a value may be meant as a request, rather than as a notification or a response. The id of a
    response is one of this server's: an error with it would look like the answer to a request of the client."""
    if not isinstance(value, dict):
        return True
    is_notification = "method" in value and "id" not in value
    return not (is_notification or "result" in value or "error" in value)


def _error(request_id: str | int | None, code: int, message: str) -> types.JSONRPCError:
    return types.JSONRPCError(jsonrpc="2.0", id=request_id, error=types.ErrorData(code=code, message=message))


# --- parameters -----------------------------------------------------------------------------------


async def explain_params(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: name the parameters that the SDK refuses."""
    try:
        return await call_next(ctx)
    except ValidationError as error:
        if not error.title.endswith(("Request", "RequestParams")):  # not of what the client sent
            raise
        message = f"The parameters of {ctx.method} are invalid: {_describe(error, ctx.params)}. Nothing was submitted."
        raise MCPError(types.INVALID_PARAMS, message) from None
    except MCPError as error:
        if error.error != _SDK_NOT_INITIALIZED:
            raise
        raise MCPError(types.INVALID_PARAMS, _NOT_INITIALIZED) from None


_SDK_NOT_INITIALIZED = types.ErrorData(code=types.INVALID_PARAMS, message="Invalid request parameters", data="")
"""What the SDK raises for a request before the session is initialized; for what is invalid, a ValidationError."""
_KINDS = {
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "list_type": "must be an array",
}
"""What is allowed, by pydantic's type of error."""


def _describe(error: ValidationError, params: object) -> str:
    problems = dict.fromkeys(_problems(error, {"params": {} if params is None else params}))
    return "; ".join(list(problems)[:_MAX_PROBLEMS])


def _problems(error: ValidationError, received: object) -> Iterator[str]:
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        path = list(each["loc"]) if error.title.endswith("Request") else ["params", *each["loc"]]
        value, names = received, []
        while path and isinstance(value, dict) and path[0] in value:
            names.append(str(path[0]))
            value = value[path.pop(0)]
        if len(path) == 1 and each["type"] == "missing":
            yield f"{'.'.join([*names, str(path[0])])} is missing"
        else:  # further names are those of the types that a value may have
            kind = "is not allowed" if path else _KINDS.get(each["type"], "is not allowed")
            yield f"{'.'.join(names)} {kind}"


_unusable: ContextVar[object] = ContextVar("_unusable", default=None)
"""The arguments of the current call if they are no object."""


async def accept_any_arguments(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Pass on every call with an object as its arguments. An empty array means none: PHP writes an empty object so."""
    arguments = (ctx.params or {}).get("arguments")
    if ctx.method != "tools/call" or arguments is None or isinstance(arguments, dict):
        return await call_next(ctx)
    token = _unusable.set(None if arguments == [] else arguments)
    try:
        return await call_next(replace(ctx, params={**(ctx.params or {}), "arguments": {}}))
    finally:
        _unusable.reset(token)


def received_arguments(arguments: dict[str, Any] | None) -> object:
    """Return the arguments of the current call as its client sent them, given what was passed on."""
    unusable = _unusable.get()
    return arguments if unusable is None else unusable
