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
"""With a private and a public key: with another kind whoever knows the public key could sign."""
LEEWAY_S = 60
"""Seconds by which the issuer's clock and this machine's may differ."""
CLOCK_WRONG_S = 3600
"""Seconds up to which a wrong clock may be why a token seems expired, or not valid yet."""
TELL_AGAIN_AFTER_S = 60.0
"""Seconds between two lines in the log about clocks."""
MOST_CHECKED = 1000
"""Tokens that are remembered as checked: for as long as their key is listed, only their end is looked at."""
LONGEST_TOKEN = 16_384
"""Characters."""
LONGEST_SUBJECT = 255
"""Characters (OpenID Connect Core 1.0, section 2)."""
MOST_SCOPES = 100

_KINDS = {"R": "RSA", "P": "RSA", "E": "EC"}


class TokenRefused(Exception):
    """A token is not good; the text says why, and can be shown to whoever sent it."""


class AccessClaims(Struct, frozen=True):
    """What a good token says. `expires_at`: seconds since 1970; the token holds LEEWAY_S longer."""

    issuer: str
    subject: str
    client: str
    scopes: frozenset[str]
    expires_at: float

    @property
    def owner(self) -> str:
        """Whose rows these are: a subject is one person's at its issuer only, and `://` stands in no static name."""
        return f"{self.issuer}#{self.subject}"

    @property
    def holds(self) -> bool:
        """Whether it has not expired."""
        return time.time() < self.expires_at + LEEWAY_S


class SignedOtherwise(TokenRefused):
    """A token is not signed with the key that it names."""


class OAuthTokens:
    """Checks the tokens of one issuer that are made for `audience`, this server's public address."""

    def __init__(self, issuer: Issuer, audience: str) -> None:
        self.issuer = issuer
        self._told_at = 0.0
        self._checked: dict[bytes, tuple[Key, AccessClaims]] = {}
        """By the hash of a token: the key with which it was found to be signed, and what it says."""
        self._audiences = [audience.rstrip("/"), f"{audience.rstrip('/')}/"]

    async def claims(self, token: str) -> AccessClaims:
        """What a token says, once all of it was checked. Raises TokenRefused, or IssuerDown where nobody can tell."""
        if len(token) > LONGEST_TOKEN:
            raise TokenRefused("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            raise TokenRefused("The token is none of this server's.") from None
        algorithm, name = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise TokenRefused("The token is not signed as an issuer signs.")
        key = await self._key(name, algorithm)
        digest = hashlib.sha256(token.encode()).digest()
        checked = self._checked.get(digest)
        if checked is None or checked[0] != key or not checked[1].holds:
            try:
                checked = key, self._read(token, _usable(key, algorithm), algorithm)
            except SignedOtherwise as refused:
                other = await self._key(name, algorithm, instead_of=key)
                if other == key:
                    raise refused from None
                checked = other, self._read(token, _usable(other, algorithm), algorithm)
            self._checked[digest] = checked
            if len(self._checked) > MOST_CHECKED:
                del self._checked[next(iter(self._checked))]
        return checked[1]

    async def _key(self, name: object, algorithm: str, *, instead_of: Key | None = None) -> Key:
        known_as = None if name is None else str(name)
        try:
            if instead_of is None:
                keys = await self.issuer.keys(known_as)
            else:
                keys = await self.issuer.keys_instead_of(instead_of, known_as)
        except UnknownKey:
            raise TokenRefused("The token is signed with a key that the issuer does not list.") from None
        usable = [each for each in keys if _is_for(each, algorithm)]
        if len(usable) != 1:
            raise TokenRefused("The token does not tell which key of the issuer it is signed with.")
        return usable[0]

    def _read(self, token: str, key: jwt.PyJWK, algorithm: str) -> AccessClaims:
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
            raise SignedOtherwise("The token's signature is wrong.") from None
        except jwt.PyJWTError as error:
            raise TokenRefused(self._reason(token, error)) from None
        except (ValueError, TypeError, OverflowError):
            raise TokenRefused("The token cannot be read.") from None
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
            raise TokenRefused("The token's subject cannot be used.")
        client = claims.get("client_id") or claims.get("azp") or ""
        return AccessClaims(self.issuer.address, subject, str(client), _scopes(claims), expires_at)

    def _reason(self, token: str, error: jwt.PyJWTError) -> str:
        """Why a token is refused. Its claims are compared only after its signature was found to be good."""
        match error:
            case jwt.ExpiredSignatureError():
                return self._of_time(token, "exp", "The token has expired.")
            case jwt.ImmatureSignatureError() | jwt.InvalidIssuedAtError():
                return self._of_time(token, "nbf", "The token is not valid yet, by this server's clock.")
            case jwt.InvalidAudienceError():
                return "The token was made for another server: its audience is not this one's address."
            case jwt.InvalidIssuerError():
                return "The token is of another issuer."
            case jwt.MissingRequiredClaimError():
                return f"The token says no {error.claim}."
            case _:
                return "The token cannot be read."

    def _of_time(self, token: str, claim: str, reason: str) -> str:
        """The reason, after the seconds were logged: with clocks that differ every token would be refused."""
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        at = claims.get(claim) or claims.get("iat")
        now = time.time()
        if isinstance(at, int | float) and abs(at - now) <= CLOCK_WRONG_S and now - self._told_at >= TELL_AGAIN_AFTER_S:
            self._told_at = now
            logger.warning(
                "a token of %s is refused: its time (%s) differs by %+.0f s from this machine's clock, and %d s are "
                "allowed; if that is not so, set the clock",
                self.issuer.address,
                claim if claims.get(claim) else "iat",
                at - now,
                LEEWAY_S,
            )
        return reason


def _usable(key: Key, algorithm: str) -> jwt.PyJWK:
    try:
        return jwt.PyJWK(key, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise TokenRefused("The issuer's key cannot be used.") from None


def _is_for(key: Key, algorithm: str) -> bool:
    """Whether a key may check this algorithm: of its kind, for signatures, and for no other algorithm."""
    kind = "OKP" if algorithm == "EdDSA" else _KINDS[algorithm[0]]
    return key.get("kty") == kind and key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """What a token allows: `scope` (RFC 9068) or `scp` (Entra ID, Okta), a text with spaces or a list."""
    granted = claims.get("scope", claims.get("scp", ""))
    words = granted.split() if isinstance(granted, str) else granted if isinstance(granted, list) else []
    return frozenset(each for each in words[:MOST_SCOPES] if isinstance(each, str))
