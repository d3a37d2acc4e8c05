"""Who makes a request, where the server asks that: over HTTP, with `SORA_AUTH`."""

from __future__ import annotations

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from msgspec import Struct
from pydantic import ConfigDict

from sora_mcp.core.cost import Cost


class Principal(Struct, frozen=True):
    """One caller. Two requests are of the same person where `owner` is the same.

    `owner`: whose rows these are. It is the NAME of a static token, or `ISSUER#SUBJECT` for OAuth; a NAME has no `#`,
    so that neither can ever be the other. `scopes`: what the token allows, of SCOPES or others. `max_cost_per_day`:
    the most that 24 hours of this owner may cost, None without a cap of their own.
    """

    owner: str
    scopes: frozenset[str]
    max_cost_per_day: Cost | None = None


class VerifiedToken(AccessToken):
    """A token that was found to be good: whose it is, and what the verifier knows of it. Its text is not kept."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    principal: Principal
    proof: object


def current_principal() -> Principal | None:
    """Who makes the request that is served in this context; None where identity is off.

    Where it is on, no handler of MCP is reached without one.
    """
    token = get_access_token()
    return token.principal if isinstance(token, VerifiedToken) else None


def current_token() -> VerifiedToken:
    """The token of the request that is served in this context, on a server that has found it to be good."""
    token = get_access_token()
    assert isinstance(token, VerifiedToken)
    return token
