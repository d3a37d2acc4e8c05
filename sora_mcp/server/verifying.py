"""Verify the bearer token of a request: a static token, or one of the OAuth issuer."""

from __future__ import annotations

import logging
import time
from functools import lru_cache

from sora_mcp.config.documents import Documents
from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem, NotConfigured
from sora_mcp.identity.issuer import Issuer, IssuerDown
from sora_mcp.identity.oauth import AccessClaims, OAuthTokens, TokenRefused
from sora_mcp.identity.tokens import PREFIX, Grant, Tokens, TokenStore
from sora_mcp.server.principals import Principal, VerifiedToken

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0
"""Seconds between two log lines about the same problem."""

RETRY_AFTER_S = 5
"""Seconds after which a client that got a 503 may try again."""

_UNREADABLE = "This server cannot read its stored tokens now; whoever runs it has to repair them."


class CannotVerify(Exception):
    """A token cannot be verified now; the text says why, and can be shown to its sender."""


class Verifier:
    """Verifies the tokens of a server; `tokens` or `oauth` is None if that type of token is not accepted."""

    def __init__(self, tokens: Tokens | None, oauth: OAuthTokens | None) -> None:
        self._tokens = tokens
        self._oauth = oauth
        self._logged_at: dict[str, float] = {}

    async def verify(self, token: str) -> VerifiedToken:
        """Return the verified token. Raise TokenRefused if it is invalid, CannotVerify if that is not known now."""
        if token.startswith(PREFIX):
            return self._verify_static(token)
        if self._oauth is None:
            raise TokenRefused("The token is malformed, or of a type that this server does not accept.")
        try:
            claims = await self._oauth.claims(token)
        except IssuerDown as down:
            self._log_problem(f"tokens of {self._oauth.issuer.address} cannot be verified: {down}")
            raise CannotVerify("This server cannot fetch the issuer's keys now.") from None
        principal = Principal(claims.owner, claims.scopes)
        return _create_token(principal, claims, client=claims.client, issuer=claims.issuer)

    def check(self, token: VerifiedToken) -> None:
        """Check that a verified token is still valid. Raise TokenRefused if it was revoked or changed, or has expired,
        CannotVerify if that is not known now.
        """
        if isinstance(token.proof, AccessClaims):
            is_valid = token.proof.is_valid
        else:
            try:
                is_valid = (
                    self._tokens is not None and isinstance(token.proof, Grant) and self._tokens.is_current(token.proof)
                )
            except FileProblem as problem:
                self._log_problem(f"static tokens cannot be verified: {problem.message}")
                raise CannotVerify(_UNREADABLE) from None
        if not is_valid:
            raise TokenRefused("The token is no longer valid.")

    def has_access(self, owner: str) -> bool:
        """Return whether an owner may still have a valid token; for owners with an issuer's token that is not known
        here, so it is assumed. Raise CannotVerify."""
        if "#" in owner:
            return self._oauth is not None
        try:
            return self._tokens is not None and self._tokens.has(owner)
        except FileProblem as problem:
            self._log_problem(problem.message)
            raise CannotVerify(_UNREADABLE) from None

    def _verify_static(self, token: str) -> VerifiedToken:
        if self._tokens is None:
            raise TokenRefused("Static tokens are not accepted here.")
        try:
            grant = self._tokens.grant(token)
        except FileProblem as problem:
            self._log_problem(f"static tokens cannot be verified: {problem.message}")
            raise CannotVerify(_UNREADABLE) from None
        if grant is None:
            raise TokenRefused("The token is not known; it may have been revoked.")
        return _token_from_grant(grant)

    def _log_problem(self, problem: str) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(problem, -LOG_INTERVAL_S) >= LOG_INTERVAL_S:
            recent = {text: at for text, at in self._logged_at.items() if now - at < LOG_INTERVAL_S}
            self._logged_at = recent | {problem: now}
            logger.error("%s", problem)


@lru_cache(maxsize=1000)
def _token_from_grant(grant: Grant) -> VerifiedToken:
    principal = Principal(grant.name, frozenset(grant.scopes), grant.max_cost_per_day)
    return _create_token(principal, grant, client="sora-mcp token")


def _create_token(
    principal: Principal, proof: Grant | AccessClaims, *, client: str, issuer: str | None = None
) -> VerifiedToken:
    """Return the token as the SDK identifies callers: client, issuer and subject together own a session."""
    return VerifiedToken.model_construct(
        token="",
        client_id=client,
        scopes=sorted(principal.scopes),
        expires_at=None,  # `is_valid` checks that
        resource=None,
        subject=principal.owner,
        claims={"iss": issuer} if issuer else None,
        principal=principal,
        proof=proof,
    )


def create_verifier(settings: Settings, documents: Documents) -> Verifier:
    """Create the verifier from the settings. Raise NotConfigured if a setting that OAuth needs is missing."""
    tokens = _tokens(TokenStore(documents)) if "tokens" in settings.auth else None
    if "oauth" not in settings.auth:
        return Verifier(tokens, None)
    for name in ("oauth_issuer", "oauth_audience"):
        if getattr(settings, name) is None:
            raise NotConfigured((variable_of("auth"), " is oauth, but ", variable_of(name), " is not set."), _SET)
    assert settings.oauth_issuer is not None
    assert settings.oauth_audience is not None
    return Verifier(tokens, OAuthTokens(Issuer(settings.oauth_issuer), settings.oauth_audience))


_SET = Do("Set it and start again.")


def _tokens(store: TokenStore) -> Tokens:
    """Return the tokens of a store, and log if no static token is accepted."""
    try:
        if not store.grants():
            logger.info("there are no tokens yet; create one with sora-mcp token add NAME")
    except FileProblem as problem:
        logger.error("static tokens cannot be verified: %s", problem.message)  # noqa: TRY400 - it says all
    return Tokens(store)
