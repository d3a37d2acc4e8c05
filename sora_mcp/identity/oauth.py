"""Access tokens of an OAuth issuer: signed JWTs (RFC 9068), made for this server (RFC 8707), checked here."""

from __future__ import annotations

import hashlib
import logging
import time
from typing import Any

import jwt
from msgspec import Struct

from sora_mcp.identity.issuer import Issuer, Key, UnknownKey

logger = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric only: with a symmetric algorithm anyone who knows the public key could sign."""
LEEWAY_S = 60
"""Allowed difference between the issuer's clock and this machine's."""
MAX_CLOCK_ERROR_S = 3600
"""Up to this difference a wrong clock may be why a token seems expired, or not valid yet."""
CLOCK_LOG_INTERVAL_S = 60.0
"""Between two log lines about clocks."""
CACHE_SIZE = 1000
"""Number of verified tokens to cache: while their key is listed, only their expiry is checked again."""
MAX_TOKEN_LENGTH = 16_384
"""Characters."""
MAX_SUBJECT_LENGTH = 255
"""Characters (OpenID Connect Core 1.0, section 2)."""
MAX_SCOPES = 100

_KEY_TYPES = {"R": "RSA", "P": "RSA", "E": "EC"}


class TokenRefused(Exception):
    """A token is invalid; the text says why, and may be shown to its sender."""


class AccessClaims(Struct, frozen=True):
    """The claims of a valid token. `expires_at`: Unix seconds; the token is accepted LEEWAY_S longer."""

    issuer: str
    subject: str
    client: str
    scopes: frozenset[str]
    expires_at: float

    @property
    def owner(self) -> str:
        """The owner of this person's rows: a subject is unique only at its issuer, and static names have no `://`."""
        return f"{self.issuer}#{self.subject}"

    @property
    def is_valid(self) -> bool:
        """Whether it has not expired yet."""
        return time.time() < self.expires_at + LEEWAY_S


class WrongSignature(TokenRefused):
    """A token is not signed with the key it names."""


class OAuthTokens:
    """Verifies tokens of one issuer that were issued for `audience`, this server's public address."""

    def __init__(self, issuer: Issuer, audience: str) -> None:
        self.issuer = issuer
        self._clock_logged_at = 0.0
        self._cache: dict[bytes, tuple[Key, AccessClaims]] = {}
        """Token hash → the key that it is signed with, and its claims."""
        self._audiences = [audience.rstrip("/"), f"{audience.rstrip('/')}/"]

    async def claims(self, token: str) -> AccessClaims:
        """Verify a token and return its claims. Raises TokenRefused, or IssuerDown if it cannot be verified now."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenRefused("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            raise TokenRefused("The token is malformed, or of a type that this server does not accept.") from None
        algorithm, name = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise TokenRefused("The token's signing algorithm is not accepted.")
        key = await self._key(name, algorithm)
        digest = hashlib.sha256(token.encode()).digest()
        cached = self._cache.get(digest)
        if cached is None or cached[0] != key or not cached[1].is_valid:
            try:
                cached = key, self._decode(token, _load_key(key, algorithm), algorithm)
            except WrongSignature as refused:
                other = await self._key(name, algorithm, instead_of=key)
                if other == key:
                    raise refused from None
                cached = other, self._decode(token, _load_key(other, algorithm), algorithm)
            self._cache[digest] = cached
            if len(self._cache) > CACHE_SIZE:
                del self._cache[next(iter(self._cache))]
        return cached[1]

    async def _key(self, name: object, algorithm: str, *, instead_of: Key | None = None) -> Key:
        key_id = None if name is None else str(name)
        try:
            if instead_of is None:
                keys = await self.issuer.keys(key_id)
            else:
                keys = await self.issuer.keys_replacing(instead_of, key_id)
        except UnknownKey:
            raise TokenRefused("The token is signed with a key that the issuer does not list.") from None
        usable = [each for each in keys if _fits(each, algorithm)]
        if len(usable) != 1:
            raise TokenRefused("The token does not identify which of the issuer's keys signed it.")
        return usable[0]

    def _decode(self, token: str, key: jwt.PyJWK, algorithm: str) -> AccessClaims:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self.issuer.address,
                audience=self._audiences,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            expires_at = float(claims["exp"])
        except jwt.InvalidSignatureError:
            raise WrongSignature("The token's signature is wrong.") from None
        except jwt.PyJWTError as error:
            raise TokenRefused(self._reason(token, error)) from None
        except (ValueError, TypeError, OverflowError):
            raise TokenRefused("The token cannot be read.") from None
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_LENGTH or not subject.isprintable():
            raise TokenRefused("The token's subject cannot be used.")
        client = claims.get("client_id") or claims.get("azp") or ""
        return AccessClaims(self.issuer.address, subject, str(client), _scopes(claims), expires_at)

    def _reason(self, token: str, error: jwt.PyJWTError) -> str:
        """Return why a token is refused. Its claims are compared only after its signature was verified."""
        match error:
            case jwt.ExpiredSignatureError():
                return self._clock_reason(token, "exp", "The token has expired.")
            case jwt.ImmatureSignatureError() | jwt.InvalidIssuedAtError():
                return self._clock_reason(token, "nbf", "The token is not valid yet, by this server's clock.")
            case jwt.InvalidAudienceError():
                return "The token was issued for another server: its audience is not this server's address."
            case jwt.InvalidIssuerError():
                return "The token is from another issuer."
            case jwt.MissingRequiredClaimError():
                return f"The token has no {error.claim} claim."
            case _:
                return "The token cannot be read."

    def _clock_reason(self, token: str, claim: str, reason: str) -> str:
        """Log by how much the clocks may differ, since then every token would be refused; return the reason."""
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        at = claims.get(claim) or claims.get("iat")
        now = time.time()
        is_log_due = now - self._clock_logged_at >= CLOCK_LOG_INTERVAL_S
        if isinstance(at, int | float) and abs(at - now) <= MAX_CLOCK_ERROR_S and is_log_due:
            self._clock_logged_at = now
            logger.warning(
                "a token of %s is refused: its %s claim differs by %+.0f s from this machine's clock, and %d s are "
                "allowed; if the clock is wrong, correct it",
                self.issuer.address,
                claim if claims.get(claim) else "iat",
                at - now,
                LEEWAY_S,
            )
        return reason


def _load_key(key: Key, algorithm: str) -> jwt.PyJWK:
    try:
        return jwt.PyJWK(key, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise TokenRefused("The issuer's key cannot be used.") from None


def _fits(key: Key, algorithm: str) -> bool:
    """Whether a key may verify this algorithm: of its key type, for signatures, and for no other algorithm."""
    key_type = "OKP" if algorithm == "EdDSA" else _KEY_TYPES[algorithm[0]]
    return key.get("kty") == key_type and key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """Return a token's scopes: `scope` (RFC 9068) or `scp` (Entra ID, Okta), space-separated or a list."""
    claim = claims.get("scope", claims.get("scp", ""))
    names = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return frozenset(each for each in names[:MAX_SCOPES] if isinstance(each, str))
