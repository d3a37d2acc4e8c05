"""Middleware for people who share a server: each request uses its caller's studio, and questions are bound to their
owner."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.request_state import (
    AESGCMRequestStateCodec,
    RequestStateBoundary,
    RequestStateCodec,
    RequestStateSecurity,
)
from mcp.shared.exceptions import MCPError

from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem, NotConfigured, SoraError
from sora_mcp.server.asking import ANSWER_TIMEOUT_S
from sora_mcp.server.principals import current_principal
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Studio]

AUDIENCE = "sora"


def check_settings(settings: Settings) -> None:
    """Raise NotConfigured if the settings name one owner although callers are authenticated."""
    if settings.owner:
        raise NotConfigured(
            (
                variable_of("owner"),
                " cannot be set with ",
                variable_of("auth"),
                ": each token says whose videos it shows.",
            ),
            Do(("Remove ", variable_of("owner"), " and start again.")),
        )


async def as_owner(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Middleware: replace the studio by that of the request's caller."""
    principal = current_principal()
    if principal is None or not principal.owner:
        raise MCPError(types.INVALID_REQUEST, "The sender of this request is not known, so nothing was done.")
    try:
        studio = ctx.lifespan_context.for_owner(principal.owner, principal.max_cost_per_day)
    except FileProblem as problem:  # it is not known which upstream key to use
        logger.error("requests of %s fail: %s", principal.owner, problem.message)  # noqa: TRY400 - the message says all
        raise MCPError(types.INTERNAL_ERROR, _NOT_SERVED) from None
    return await call_next(replace(ctx, lifespan_context=studio))


_NOT_SERVED = (
    "This server's upstream keys cannot be used now, so nothing was done or submitted; whoever runs the server has to "
    "repair them."
)


class SealedState:
    """Middleware: seals the state that a question leaves with its client, for the owner who was asked.

    The keys are in the ledger, so that an answer is valid after a restart and at another server. They change every day:
    they are read again from time to time, and when a state cannot be unsealed, since another server may have sealed it.
    """

    def __init__(self) -> None:
        self._boundary: RequestStateBoundary | None = None
        self._refreshed_at = -math.inf
        self._refreshing = anyio.Lock()

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        await self._refresh(ctx.lifespan_context, max_age_s=KEYS_TTL_S)
        for may_be_new in (True, False):
            # Without the ledger's keys no question is asked, and no answer is valid.
            boundary = self._boundary or _create_boundary(RequestStateSecurity.ephemeral())
            try:
                return await boundary(ctx, call_next)
            except MCPError as error:
                if error.error.data != _INVALID_STATE:
                    raise
            if may_be_new:
                await self._refresh(ctx.lifespan_context, max_age_s=KEYS_RETRY_DELAY_S)
        # Of another owner, about another call, expired, or forged: the user is asked again, as if there were no state.
        return await boundary(replace(ctx, params={**(ctx.params or {}), "requestState": None}), call_next)

    async def _refresh(self, studio: Studio, *, max_age_s: float) -> None:
        """Read the keys again if they are older than `max_age_s` seconds; if that fails, keep the known ones."""
        requested_at = time.monotonic()
        if self._boundary is not None and requested_at - self._refreshed_at <= max_age_s:
            return
        async with self._refreshing:
            if self._refreshed_at < requested_at:  # one of many concurrent requests reads for all
                started_at = time.monotonic()
                self._boundary = await _load_boundary(studio) or self._boundary
                self._refreshed_at = started_at


KEYS_TTL_S = 600.0
"""Seconds after which the keys are read again. Even so, no key seals for longer than the ledger stores it."""
KEYS_RETRY_DELAY_S = 1.0
"""The same if a state cannot be unsealed: forged states cost the ledger no more reads than this."""

_INVALID_STATE = {"reason": "invalid_request_state"}
"""The SDK's error for a state that this server did not seal for this call; raised before the call is handled."""


async def _load_boundary(studio: Studio) -> RequestStateBoundary | None:
    try:
        keys = await studio.servers.seal_keys()
    except SoraError as error:
        logger.info("the keys for questions cannot be read now: %s", error.message)
        return None
    codec = _LedgerClockCodec(AESGCMRequestStateCodec(keys), studio.servers.now)
    return _create_boundary(RequestStateSecurity(codec=codec, ttl=ANSWER_TIMEOUT_S, bind_principal=_owner))


class _LedgerClockCodec:
    """Seals a state with times of the ledger's clock: the SDK uses this server's clock, and servers' clocks differ."""

    def __init__(self, codec: RequestStateCodec, clock: Callable[[], float]) -> None:
        self._codec = codec
        self._clock = clock

    def seal(self, payload: bytes) -> str:
        return self._codec.seal(_shift_times(payload, self._clock() - time.time()))

    def unseal(self, token: str) -> bytes:
        return _shift_times(self._codec.unseal(token), time.time() - self._clock())


def _shift_times(payload: bytes, seconds: float) -> bytes:
    """Return a state with its times moved by so many seconds."""
    claims = json.loads(payload)
    return json.dumps(claims | {name: claims[name] + seconds for name in ("iat", "exp")}).encode()


def _create_boundary(security: RequestStateSecurity) -> RequestStateBoundary:
    return RequestStateBoundary(security, default_audience=AUDIENCE)


def _owner(_: ServerRequestContext[Any, Any]) -> str:
    """Return the owner of a question, whichever token or session they use. Raise LookupError if there is none."""
    principal = current_principal()
    if principal is None:
        raise LookupError
    return principal.owner
