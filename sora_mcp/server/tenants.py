"""People who share a server: each request works in the studio of whoever makes it, and its questions are theirs."""

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
from sora_mcp.server.asking import ANSWER_WITHIN
from sora_mcp.server.principals import current_principal
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Studio]

AUDIENCE = "sora"


def check_settings(settings: Settings) -> None:
    """Raise NotConfigured where the settings name one owner, and callers say who they are."""
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
    """Middleware: from here on there is nothing but the studio of whoever makes the request."""
    principal = current_principal()
    if principal is None or not principal.owner:
        raise MCPError(types.INVALID_REQUEST, "It is not known who makes this request, so nothing was done.")
    try:
        studio = ctx.lifespan_context.for_owner(principal.owner, principal.max_cost_per_day)
    except FileProblem as problem:  # whose key is to be used is not known
        logger.error("%s is not served: %s", principal.owner, problem.message)  # noqa: TRY400 - its words say it all
        raise MCPError(types.INTERNAL_ERROR, _NOT_SERVED) from None
    return await call_next(replace(ctx, lifespan_context=studio))


_NOT_SERVED = (
    "This server's upstream keys cannot be used now, so nothing was done or submitted; whoever runs the server has to "
    "mend it."
)


class Sealed:
    """Middleware: the state that a question leaves with its client is sealed for the owner who was asked.

    The keys stand in the ledger, so that an answer counts after a restart, and at another server. They change every
    day: they are read again every now and then, and when a state cannot be opened, which another may have sealed.
    """

    def __init__(self) -> None:
        self._boundary: RequestStateBoundary | None = None
        self._read_at = -math.inf
        self._reading = anyio.Lock()

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        await self._read(ctx.lifespan_context, if_older_than=KEYS_FOR_S)
        for may_be_new in (True, False):
            # Without the ledger's keys no question is asked, and no answer counts.
            boundary = self._boundary or _boundary_of(RequestStateSecurity.ephemeral())
            try:
                return await boundary(ctx, call_next)
            except MCPError as error:
                if error.error.data != _NOT_OPENED:
                    raise
            if may_be_new:
                await self._read(ctx.lifespan_context, if_older_than=KEYS_AGAIN_AFTER_S)
        # Of another owner, about another call, too old, or made up: whoever answers is asked, as if it were not there.
        return await boundary(replace(ctx, params={**(ctx.params or {}), "requestState": None}), call_next)

    async def _read(self, studio: Studio, *, if_older_than: float) -> None:
        """Read the keys again; where that fails, those which are known are used."""
        came_at = time.monotonic()
        if self._boundary is not None and came_at - self._read_at <= if_older_than:
            return
        async with self._reading:
            if self._read_at < came_at:  # of many who come at once one reads for all
                began_at = time.monotonic()
                self._boundary = await _opened(studio) or self._boundary
                self._read_at = began_at


KEYS_FOR_S = 600.0
"""Seconds after which the keys are read again; with this added, no key seals for longer than the ledger keeps it."""
KEYS_AGAIN_AFTER_S = 1.0
"""The same where a state cannot be opened: whoever makes states up costs the ledger nothing more."""

_NOT_OPENED = {"reason": "invalid_request_state"}
"""What the SDK says of a state that is none of this server's for this call; it is said before anything is done."""


async def _opened(studio: Studio) -> RequestStateBoundary | None:
    try:
        keys = await studio.servers.seal_keys()
    except SoraError as error:
        logger.info("the keys for questions cannot be read now: %s", error.message)
        return None
    codec = _ByTheLedgersClock(AESGCMRequestStateCodec(keys), studio.servers.now)
    return _boundary_of(RequestStateSecurity(codec=codec, ttl=ANSWER_WITHIN, bind_principal=_owner))


class _ByTheLedgersClock:
    """Seals a state with times by the ledger's clock: the SDK looks at this server's, and those of servers differ."""

    def __init__(self, codec: RequestStateCodec, clock: Callable[[], float]) -> None:
        self._codec = codec
        self._clock = clock

    def seal(self, payload: bytes) -> str:
        return self._codec.seal(_later(payload, self._clock() - time.time()))

    def unseal(self, token: str) -> bytes:
        return _later(self._codec.unseal(token), time.time() - self._clock())


def _later(payload: bytes, seconds: float) -> bytes:
    """A state whose times are so many seconds later."""
    claims = json.loads(payload)
    return json.dumps(claims | {name: claims[name] + seconds for name in ("iat", "exp")}).encode()


def _boundary_of(security: RequestStateSecurity) -> RequestStateBoundary:
    return RequestStateBoundary(security, default_audience=AUDIENCE)


def _owner(_: ServerRequestContext[Any, Any]) -> str:
    """Whose question it is, whichever token or session they use. Raises LookupError: nothing is sealed for nobody."""
    principal = current_principal()
    if principal is None:
        raise LookupError
    return principal.owner
