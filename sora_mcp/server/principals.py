"""The caller of a request, if the server authenticates callers: over HTTP, with `SORA_AUTH`."""

from __future__ import annotations

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from msgspec import Struct
from pydantic import ConfigDict

from sora_mcp.core.cost import Cost


class Principal(Struct, frozen=True):
    """One caller. Two requests come from the same person if `owner` is the same.

    `owner`: the owner of the caller's rows. It is the NAME of a static token, or `ISSUER#SUBJECT` for OAuth; a NAME has
    no `#`, so the two cannot collide. `scopes`: what the token allows, from SCOPES or others. `max_cost_per_day`: the
    most that 24 hours of this owner may cost, None without an own cap.
    """

    owner: str
    scopes: frozenset[str]
    max_cost_per_day: Cost | None = None


class VerifiedToken(AccessToken):
    """A valid token: its caller, and what the verifier knows about it. Its text is not stored."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    principal: Principal
    proof: object


def current_principal() -> Principal | None:
    """Return the caller of the current request; None if authentication is off.

    If it is on, no MCP handler is reached without one.
    """
    token = get_access_token()
    return token.principal if isinstance(token, VerifiedToken) else None


def current_token() -> VerifiedToken:
    """Return the verified token of the current request; only for requests that were authenticated."""
    token = get_access_token()
    assert isinstance(token, VerifiedToken)
    return token
