"""Tokens of an OAuth issuer, against one that is served here: what is believed, and what becomes of its keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import anyio
import jwt
import pytest
from issuer import Issuer as OtherIssuer
from issuer import issuing

from sora_mcp.identity import issuer as issuers
from sora_mcp.identity.issuer import Issuer, IssuerDown, metadata_addresses
from sora_mcp.identity.oauth import OAuthTokens, TokenRefused

pytestmark = pytest.mark.anyio

HERE = "https://videos.example.org/mcp"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(scope="module")
def served() -> Iterator[OtherIssuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture
def issuer(served: OtherIssuer) -> Iterator[OtherIssuer]:
    served.asked.clear()
    yield served
    served.status, served.pause = 200, 0.0
    served.pages.clear()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(issuer: OtherIssuer, clock: Clock) -> OAuthTokens:
    return OAuthTokens(Issuer(issuer.address, now=clock), HERE)


async def test_a_good_token_says_whose_it_is_and_what_it_allows(tokens: OAuthTokens, issuer: OtherIssuer) -> None:
    claims = await tokens.claims(issuer.token(HERE, sub="auth0|123"))
    assert claims.owner == f"{issuer.address}#auth0|123"
    assert claims.scopes == {"videos:read", "videos:create"}
    assert claims.client == "tests"
    assert claims.is_valid


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "videos:read"}, {"videos:read"}),
        ({"scope": ["videos:read", 7]}, {"videos:read"}),
        ({"scope": None, "scp": "videos:read openid"}, {"videos:read", "openid"}),
        ({"scope": None, "scp": ["videos:create"]}, {"videos:create"}),
        ({"scope": None}, set()),
        ({"scope": 7}, set()),
        ({"scope": ""}, set()),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
async def test_scopes_are_a_text_or_a_list(
    tokens: OAuthTokens, issuer: OtherIssuer, claims: dict[str, Any], scopes: set[str]
) -> None:
    assert (await tokens.claims(issuer.token(HERE, **claims))).scopes == scopes


def from_now(claims: dict[str, Any]) -> dict[str, Any]:
    """The claims; of a time, a number is so many seconds from now."""
    now = int(time.time())
    return {
        name: now + value if name in {"exp", "nbf", "iat"} and isinstance(value, int) else value
        for name, value in claims.items()
    }


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "https://other.example/mcp"}, "issued for another server"),
        ({"aud": None}, "has no aud claim"),
        ({"aud": f"{HERE}/x"}, "issued for another server"),
        ({"iss": "https://evil.example"}, "from another issuer"),
        ({"iss": None}, "has no iss claim"),
        ({"exp": -300}, "has expired"),
        ({"exp": None}, "has no exp claim"),
        ({"exp": "soon"}, "cannot be read"),
        ({"exp": 1e400}, "cannot be read"),
        ({"exp": 10**400}, "cannot be read"),
        ({"nbf": 300}, "not valid yet"),
        ({"iat": 300}, "not valid yet"),
        ({"sub": None}, "has no sub claim"),
        ({"sub": ""}, "subject"),
        ({"sub": "a\nb"}, "subject"),
        ({"sub": "a" * 256}, "subject"),
    ],
    ids=str,
)
async def test_what_is_not_believed(
    tokens: OAuthTokens, issuer: OtherIssuer, claims: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TokenRefused, match=reason):
        await tokens.claims(issuer.token(HERE, **from_now(claims)))


@pytest.mark.parametrize("claims", [{"exp": -20}, {"nbf": 40, "iat": 40}, {"aud": [HERE, "other"]}], ids=str)
async def test_clocks_may_differ_a_little_and_an_audience_may_be_one_of_several(
    tokens: OAuthTokens, issuer: OtherIssuer, claims: dict[str, Any]
) -> None:
    await tokens.claims(issuer.token(HERE, **from_now(claims)))


async def test_a_clock_that_is_five_minutes_off_is_told_in_the_log(
    tokens: OAuthTokens, issuer: OtherIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with pytest.raises(TokenRefused, match="by this server's clock"):
            await tokens.claims(issuer.token(HERE, **from_now({"iat": 300, "exp": 900})))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "if the clock is wrong, correct it" in line
    assert issuer.address in line


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return f"{part(header)}.{part(claims)}."


def with_hmac(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    signed = f"{part(header)}.{part(claims)}"
    digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


async def test_only_the_issuers_private_key_signs(tokens: OAuthTokens, issuer: OtherIssuer) -> None:
    good = issuer.token(HERE)
    claims, kid = claims_of(good), jwt.get_unverified_header(good)["kid"]
    head, body, signature = good.split(".")
    for forged in (
        unsigned({"alg": "none", "kid": kid}, claims),
        unsigned({"alg": "None", "kid": kid}, claims),
        unsigned({"kid": kid}, claims),
        unsigned({"alg": ["ES256"], "kid": kid}, claims),
        with_hmac({"alg": "HS256", "kid": kid}, claims, issuer.public_key),
        f"{head}.{body}.{'A' * len(signature)}",
        f"{head}.{part(claims | {'sub': 'eve'})}.{signature}",
        f"{head}.{body}",
        f"{good}.x",
        "x.y.z",
        "é.é.é",
        "a" * 20_000,
        "",
    ):
        with pytest.raises(TokenRefused):
            await tokens.claims(forged)


async def test_without_a_key_id_the_one_key_is_meant(tokens: OAuthTokens, issuer: OtherIssuer) -> None:
    await tokens.claims(issuer.token(HERE, headers={"kid": None}))


# --- the issuer's keys ----------------------------------------------------------------------------


async def test_keys_are_looked_up_once_however_many_ask(tokens: OAuthTokens, issuer: OtherIssuer) -> None:
    token = issuer.token(HERE)
    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(tokens.claims, token)
    assert issuer.asked["/jwks"] == 1


async def test_a_new_key_holds_at_once_and_the_old_one_no_longer(tokens: OAuthTokens, issuer: OtherIssuer) -> None:
    old = issuer.token(HERE)
    await tokens.claims(old)
    for _ in range(3):
        issuer.rotate()
        await tokens.claims(issuer.token(HERE))
    with pytest.raises(TokenRefused, match="does not list"):
        await tokens.claims(old)


@pytest.mark.parametrize("name", [None, "the key"])
async def test_another_key_in_the_place_of_one_holds_at_once(
    tokens: OAuthTokens, issuer: OtherIssuer, name: str | None
) -> None:
    issuer.rotate(name)
    old = issuer.token(HERE, headers={"kid": name})
    await tokens.claims(old)
    issuer.rotate(name)
    new = issuer.token(HERE, headers={"kid": name})
    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(tokens.claims, new)
    assert issuer.asked["/jwks"] == 2
    with pytest.raises(TokenRefused, match="signature is wrong"):
        await tokens.claims(old)
    for _ in range(100):
        with pytest.raises(TokenRefused, match="signature is wrong"):
            await tokens.claims(old)
    assert issuer.asked["/jwks"] <= 2 + issuers.MAX_LOOKUPS


async def test_a_thousand_unknown_keys_ask_the_issuer_a_few_times(
    tokens: OAuthTokens, issuer: OtherIssuer, clock: Clock
) -> None:
    await tokens.claims(issuer.token(HERE))
    for number in range(1000):
        with pytest.raises(TokenRefused, match="does not list"):
            await tokens.claims(issuer.token(HERE, headers={"kid": f"unknown-{number}"}))
    assert issuer.asked["/jwks"] <= 1 + issuers.MAX_LOOKUPS
    await tokens.claims(issuer.token(HERE))  # those that are known go on
    issuer.rotate()
    clock.seconds += issuers.LOOKUP_INTERVAL_S
    await tokens.claims(issuer.token(HERE))


async def test_a_key_that_was_taken_back_is_soon_refused(
    tokens: OAuthTokens, issuer: OtherIssuer, clock: Clock
) -> None:
    old = issuer.token(HERE)
    await tokens.claims(old)
    issuer.rotate()
    await tokens.claims(old)
    clock.seconds += issuers.REFRESH_INTERVAL_S + 1
    with pytest.raises(TokenRefused, match="does not list"):
        await tokens.claims(old)


async def test_where_the_issuer_is_down_known_keys_go_on_for_a_while(
    tokens: OAuthTokens, issuer: OtherIssuer, clock: Clock
) -> None:
    token = issuer.token(HERE)
    await tokens.claims(token)
    issuer.status = 503
    clock.seconds += issuers.KEYS_TTL_S - 1
    await tokens.claims(token)
    with pytest.raises(IssuerDown, match="503"):
        await tokens.claims(issuer.token(HERE, headers={"kid": "another"}))
    clock.seconds += 100
    with pytest.raises(IssuerDown):
        await tokens.claims(token)
    issuer.status = 200
    clock.seconds += 100
    await tokens.claims(token)


async def test_where_the_issuer_is_slow_nobody_waits_long(
    tokens: OAuthTokens, issuer: OtherIssuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token(HERE)
    await tokens.claims(token)
    clock.seconds += issuers.REFRESH_INTERVAL_S + 1
    monkeypatch.setattr(issuers, "LOOKUP_TIMEOUT_S", 0.3)
    issuer.pause = 2
    with anyio.fail_after(1.5):
        await tokens.claims(token)
        with pytest.raises(IssuerDown, match="did not answer"):
            await tokens.claims(issuer.token(HERE, headers={"kid": "another"}))


@pytest.mark.parametrize("has_keys", [False, True])
async def test_where_the_issuer_is_slow_a_crowd_waits_no_longer_than_one(
    tokens: OAuthTokens, issuer: OtherIssuer, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, has_keys: bool
) -> None:
    if has_keys:
        await tokens.claims(issuer.token(HERE))
    clock.seconds += issuers.LOOKUP_INTERVAL_S + 1
    monkeypatch.setattr(issuers, "LOOKUP_TIMEOUT_S", 0.3)
    issuer.pause = 2

    async def ask(number: int) -> None:
        with pytest.raises(IssuerDown, match="did not answer"):
            await tokens.claims(issuer.token(HERE, headers={"kid": f"unknown-{number}"}))

    with anyio.fail_after(1.5):
        async with anyio.create_task_group() as crowd:
            for number in range(20):
                crowd.start_soon(ask, number)


@pytest.mark.parametrize("page", [(200, "<html>"), (200, "{}"), (500, ""), (200, '{"issuer": "https://a.example"}')])
async def test_metadata_that_cannot_be_used_hide_none_at_another_address(
    issuer: OtherIssuer, tokens: OAuthTokens, page: tuple[int, str]
) -> None:
    issuer.pages["/.well-known/oauth-authorization-server"] = page
    assert (await tokens.claims(issuer.token(HERE))).subject == "alice"
    issuer.pages["/.well-known/openid-configuration"] = (404, "")
    with pytest.raises(IssuerDown, match=r"not a JSON object|another issuer|answers 500"):
        await Issuer(issuer.address).fetch_keys()


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "https://nowhere.invalid"])
async def test_an_issuer_that_is_not_there_is_said_to_be(address: str) -> None:
    with issuing() as other:
        token = other.token(HERE)
    with pytest.raises(IssuerDown, match="cannot be reached"):
        await OAuthTokens(Issuer(address), HERE).claims(token)


async def test_metadata_are_looked_for_where_each_kind_of_issuer_has_them() -> None:
    assert list(metadata_addresses("https://login.example/realms/film/")) == [
        "https://login.example/.well-known/oauth-authorization-server/realms/film",
        "https://login.example/realms/film/.well-known/openid-configuration",
        "https://login.example/.well-known/openid-configuration/realms/film",
    ]
    assert list(metadata_addresses("https://login.example")) == [
        "https://login.example/.well-known/oauth-authorization-server",
        "https://login.example/.well-known/openid-configuration",
    ]


async def test_metadata_of_another_issuer_are_not_believed(issuer: OtherIssuer) -> None:
    slash = Issuer(f"{issuer.address}/")
    with pytest.raises(IssuerDown, match=f"name another issuer: '{issuer.address}'"):
        await slash.fetch_keys()
