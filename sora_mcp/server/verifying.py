"""Telling by its bearer token whose a request is: a static token, or one of the OAuth issuer."""

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

TELL_AGAIN_AFTER_S = 60.0
"""Seconds between two lines in the log about the same trouble."""

TRY_AGAIN_AFTER_S = 5
"""Seconds after which whoever is answered that nobody can tell (503) may ask again."""

_UNREADABLE = "The tokens of this server cannot be read now; whoever runs it has to mend it."


class CannotTell(Exception):
    """Whose a token is cannot be told now; the text says why, and can be shown to whoever sent it."""


class Verifier:
    """Knows the tokens of a server; `tokens` or `oauth` is None where that kind is not let in."""

    def __init__(self, tokens: Tokens | None, oauth: OAuthTokens | None) -> None:
        self._tokens = tokens
        self._oauth = oauth
        self._told: dict[str, float] = {}

    async def verify(self, token: str) -> VerifiedToken:
        """Whose a token is. Raises TokenRefused where it is none, CannotTell where nobody is let in for now."""
        if token.startswith(PREFIX):
            return self._static(token)
        if self._oauth is None:
            raise TokenRefused("The token is none of this server's.")
        try:
            claims = await self._oauth.claims(token)
        except IssuerDown as down:
            self._tell(f"no token of {self._oauth.issuer.address} can be checked: {down}")
            raise CannotTell("The issuer of this token cannot be asked for its keys now.") from None
        principal = Principal(claims.owner, claims.scopes)
        return _verified(principal, claims, client=claims.client, issuer=claims.issuer)

    def check(self, token: VerifiedToken) -> None:
        """Look whether a token that was good still is. Raises TokenRefused where it was revoked or changed, or has
        expired, CannotTell where nobody can tell.
        """
        if isinstance(token.proof, AccessClaims):
            holds = token.proof.is_valid
        else:
            try:
                holds = (
                    self._tokens is not None and isinstance(token.proof, Grant) and self._tokens.is_current(token.proof)
                )
            except FileProblem as problem:
                self._tell(f"nobody is let in with a static token: {problem.message}")
                raise CannotTell(_UNREADABLE) from None
        if not holds:
            raise TokenRefused("The token is no longer valid.")

    def lets_in(self, owner: str) -> bool:
        """Whether an owner may still have a token that is good: of people with an issuer's that is not known here.
        Raises CannotTell."""
        if "#" in owner:
            return self._oauth is not None
        try:
            return self._tokens is not None and self._tokens.has(owner)
        except FileProblem as problem:
            self._tell(problem.message)
            raise CannotTell(_UNREADABLE) from None

    def _static(self, token: str) -> VerifiedToken:
        if self._tokens is None:
            raise TokenRefused("Static tokens are not let in here.")
        try:
            grant = self._tokens.grant(token)
        except FileProblem as problem:
            self._tell(f"nobody is let in with a static token: {problem.message}")
            raise CannotTell(_UNREADABLE) from None
        if grant is None:
            raise TokenRefused("The token is not known; it may have been revoked.")
        return _of_grant(grant)

    def _tell(self, trouble: str) -> None:
        now = time.monotonic()
        if now - self._told.get(trouble, -TELL_AGAIN_AFTER_S) >= TELL_AGAIN_AFTER_S:
            self._told = {text: at for text, at in self._told.items() if now - at < TELL_AGAIN_AFTER_S} | {trouble: now}
            logger.error("%s", trouble)


@lru_cache(maxsize=1000)
def _of_grant(grant: Grant) -> VerifiedToken:
    principal = Principal(grant.name, frozenset(grant.scopes), grant.max_cost_per_day)
    return _verified(principal, grant, client="sora-mcp token")


def _verified(
    principal: Principal, proof: Grant | AccessClaims, *, client: str, issuer: str | None = None
) -> VerifiedToken:
    """The value that the SDK knows callers by: client, issuer and subject together own a session."""
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


def verifier_of(settings: Settings, documents: Documents) -> Verifier:
    """The verifier that the settings ask for. Raises NotConfigured where OAuth lacks a setting."""
    tokens = _tokens(TokenStore(documents)) if "tokens" in settings.auth else None
    if "oauth" not in settings.auth:
        return Verifier(tokens, None)
    for name in ("oauth_issuer", "oauth_audience"):
        if getattr(settings, name) is None:
            raise NotConfigured((variable_of("auth"), " is oauth, and ", variable_of(name), " is not set."), _SET)
    assert settings.oauth_issuer is not None
    assert settings.oauth_audience is not None
    return Verifier(tokens, OAuthTokens(Issuer(settings.oauth_issuer), settings.oauth_audience))


_SET = Do("Set it and start again.")


def _tokens(store: TokenStore) -> Tokens:
    """The tokens of a store; in the log stands at once whether anybody is let in with one."""
    try:
        if not store.grants():
            logger.info("nobody has a token yet; sora-mcp token add NAME makes one")
    except FileProblem as problem:
        logger.error("nobody is let in with a static token: %s", problem.message)  # noqa: TRY400 - it says all
    return Tokens(store)
