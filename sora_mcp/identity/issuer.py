"""The keys that an OAuth issuer signs its tokens with: found by its metadata, kept, followed when they change.

Metadata: RFC 8414, OpenID Connect Discovery 1.0. Keys: RFC 7517.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx

from sora_mcp import __version__
from sora_mcp.config.addresses import is_local_host

logger = logging.getLogger(__name__)

ASKED_WITHIN_S = 5.0
"""Seconds that finding the keys may take, all requests together."""
FRESH_S = 300.0
"""Seconds after which keys are looked up again: one that the issuer took back holds no longer than that."""
KEPT_S = 3600.0
"""Seconds for which keys go on where the issuer cannot be reached. Tokens mostly live no longer."""
MOST_AT_ONCE = 5
"""Look-ups in a row for keys that are not known; anybody can name a key in a token."""
ANOTHER_AFTER_S = 5.0
"""Seconds after which one more is allowed."""
LARGEST = 1_000_000
"""Bytes of one answer."""
MOST_KEYS = 100

Key = dict[str, Any]
"""A JSON Web Key."""


class IssuerDown(Exception):
    """The issuer's keys cannot be had; the text says why, in our words."""


class UnknownKey(Exception):
    """The issuer has no key of this name."""


class Issuer:
    """One issuer. `now`: a clock in seconds that never goes back."""

    def __init__(self, address: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self.address = address
        self.skew_s: float | None = None
        """Seconds by which this machine's clock is ahead of the issuer's, as far as that was seen."""
        self._now = now
        self._keys: list[Key] = []
        self._read_at: float | None = None
        self._tried_at = -FRESH_S
        self._failure: str | None = None
        """Why the last look-up failed; None where it did not."""
        self._look_ups = 0
        self._left, self._left_at = float(MOST_AT_ONCE), now()
        self._looking_up = anyio.Lock()
        self._trust: ssl.SSLContext | None = None

    async def keys(self, name: str | None) -> list[Key]:
        """The keys that a token may be signed with which names `name` (its `kid`); all, where it names none.

        Raises IssuerDown where they cannot be had, UnknownKey where there is none of that name.
        """
        if self._is_to_be_looked_up() and not (self._known() and self._looking_up.locked()):
            await self._look_up(name)
        if not self._named(name):
            await self._look_up(name, is_new=True)
        if not self._known():
            raise IssuerDown("its keys are not known yet")
        if not (named := self._named(name)):
            raise UnknownKey
        return named

    async def keys_instead_of(self, key: Key, name: str | None) -> list[Key]:
        """The keys of that name after a token was found not to be signed with `key`: some issuers put another in the
        place of one. Raises as `keys` does."""
        async with self._looking_up:
            if key in self._keys and self._may_look_up():
                await self._try()
        return await self.keys(name)

    def _known(self) -> bool:
        return self._read_at is not None and self._now() - self._read_at <= KEPT_S

    def _is_to_be_looked_up(self) -> bool:
        """Whether the keys are old; where the last attempt failed, not at once again."""
        is_fresh = self._read_at is not None and self._now() - self._read_at <= FRESH_S
        return not is_fresh and self._now() - self._tried_at > ANOTHER_AFTER_S

    def _named(self, name: str | None) -> list[Key]:
        if not self._known():
            return []
        return [each for each in self._keys if name is None or each.get("kid") == name]

    async def _look_up(self, name: str | None, *, is_new: bool = False) -> None:
        """Look up the keys, one at a time. Raises IssuerDown where none are known either way.

        Whoever waits for a look-up that fails takes its failure for theirs: a slow issuer costs them one wait.
        """
        before = self._look_ups
        async with self._looking_up:
            if self._look_ups == before or self._failure is None:
                if self._named(name) and not self._is_to_be_looked_up():  # while this one waited
                    return
                if is_new and not self._may_look_up():
                    return
                await self._try()
        if self._failure is not None and (is_new or not self._known()):
            raise IssuerDown(self._failure)

    async def _try(self) -> None:
        try:
            self._keys = await self.look_up()
            self._read_at, self._failure = self._now(), None
        except IssuerDown as down:
            logger.warning("the keys of the issuer %s cannot be looked up: %s", self.address, down)
            self._failure = str(down)
        finally:
            self._tried_at = self._now()
            self._look_ups += 1

    def _may_look_up(self) -> bool:
        """Whether one more look-up for a key that is not known is allowed now; it is counted."""
        now = self._now()
        self._left = min(MOST_AT_ONCE, self._left + (now - self._left_at) / ANOTHER_AFTER_S)
        self._left_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    async def look_up(self) -> list[Key]:
        """The issuer's keys, as it gives them now. Raises IssuerDown."""
        try:
            with anyio.fail_after(ASKED_WITHIN_S):
                async with self._client() as client:
                    return await self._ask(client)
        except TimeoutError:
            raise IssuerDown(f"it did not answer within {ASKED_WITHIN_S:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise IssuerDown(f"it cannot be reached ({type(error).__name__})") from None

    def _client(self) -> httpx.AsyncClient:
        if self._trust is None:
            import truststore  # noqa: PLC0415 - the system's roots, where they are needed first

            self._trust = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx.AsyncClient(
            verify=self._trust,
            timeout=ASKED_WITHIN_S,
            headers={"User-Agent": f"sora-mcp/{__version__}"},
            trust_env=self.address.startswith("https:"),  # no proxy to this machine
        )

    async def _ask(self, client: httpx.AsyncClient) -> list[Key]:
        document = await self._get(client, await self._address_of_keys(client))
        entries = document.get("keys") if document is not None else None
        if not isinstance(entries, list):
            raise IssuerDown("it gives no keys")
        return [each for each in entries[:MOST_KEYS] if isinstance(each, dict)]

    async def _address_of_keys(self, client: httpx.AsyncClient) -> str:
        """What the first usable metadata name. Raises IssuerDown: why the first of those that are there are not."""
        trouble = None
        for address in metadata_addresses(self.address):
            try:
                metadata = await self._get(client, address)
                if metadata is not None:
                    return self._jwks_uri(metadata)
            except IssuerDown as down:  # some answer every address with a page, and have metadata at another one
                trouble = trouble or down
        raise trouble or IssuerDown("it has no metadata at the addresses of RFC 8414 and OpenID Connect")

    def _jwks_uri(self, metadata: dict[str, Any]) -> str:
        if metadata.get("issuer") != self.address:
            raise IssuerDown(f"its metadata name another issuer: {str(metadata.get('issuer'))[:200]!r}")
        jwks_uri = metadata.get("jwks_uri")
        if not isinstance(jwks_uri, str) or not may_be_asked(jwks_uri):
            raise IssuerDown("its metadata name no https address of keys (jwks_uri)")
        return jwks_uri

    async def _get(self, client: httpx.AsyncClient, address: str) -> dict[str, Any] | None:
        """A JSON object; None where there is none at this address. Raises IssuerDown where an answer is none."""
        async with client.stream("GET", address, headers={"Accept": "application/json"}) as response:
            if response.status_code >= 500 or response.status_code == 429:
                raise IssuerDown(f"it answers {response.status_code}")
            if response.status_code != 200:
                return None
            self._compare_clocks(response.headers.get("date"))
            content = b""
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > LARGEST:
                    raise IssuerDown("its answer is too long")
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise IssuerDown("its answer is not a JSON object")
        return document

    def _compare_clocks(self, date: str | None) -> None:
        try:
            self.skew_s = (datetime.now(UTC) - parsedate_to_datetime(date or "")).total_seconds()
        except (ValueError, TypeError):
            self.skew_s = None


def metadata_addresses(issuer: str) -> Iterator[str]:
    """Where an issuer's metadata may stand, in the order in which they are looked for."""
    parts = urlsplit(issuer)
    root, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    yield f"{root}/.well-known/oauth-authorization-server{path}"
    yield f"{root}{path}/.well-known/openid-configuration"
    if path:
        yield f"{root}/.well-known/openid-configuration{path}"


def may_be_asked(address: str) -> bool:
    """Whether keys may be had from an address: https, or plain http on this machine or network."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_local_host(host)))
