"""The keys that an OAuth issuer signs its tokens with: found through its metadata, cached, and refreshed.

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

LOOKUP_TIMEOUT_S = 5.0
"""For all requests of one lookup together."""
REFRESH_INTERVAL_S = 300.0
"""How long until keys are fetched again, and so how long a key that the issuer withdrew is still accepted."""
KEYS_TTL_S = 3600.0
"""How long keys are used while the issuer cannot be reached. Most tokens expire sooner."""
MAX_LOOKUPS = 5
"""Lookups in a row for unknown keys, since any client can name any key in a token."""
LOOKUP_INTERVAL_S = 5.0
"""How long until one more is allowed."""
MAX_BYTES = 1_000_000
"""Of one answer."""
MAX_KEYS = 100

Key = dict[str, Any]
"""A JSON Web Key."""


class IssuerDown(Exception):
    """The issuer's keys are not available; the text says why, in our own words."""


class UnknownKey(Exception):
    """The issuer has no key with this name."""


class Issuer:
    """One issuer. `now`: a monotonic clock in seconds."""

    def __init__(self, address: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self.address = address
        self.skew_s: float | None = None
        """Seconds by which this machine's clock is ahead of the issuer's; None if not known."""
        self._now = now
        self._keys: list[Key] = []
        self._fetched_at: float | None = None
        self._attempted_at = -REFRESH_INTERVAL_S
        self._failure: str | None = None
        """Why the last lookup failed; None if it succeeded."""
        self._lookup_count = 0
        self._lookups_left, self._lookups_left_at = float(MAX_LOOKUPS), now()
        self._lookup_lock = anyio.Lock()
        self._ssl_context: ssl.SSLContext | None = None

    async def keys(self, name: str | None) -> list[Key]:
        """Return the keys named `name` (a token's `kid`), or all keys if it is None.

        Raises IssuerDown if the keys are not available, UnknownKey if none has that name.
        """
        if self._is_refresh_due() and not (self._has_keys() and self._lookup_lock.locked()):
            await self._refresh(name)
        if not self._find(name):
            await self._refresh(name, is_unknown=True)
        if not self._has_keys():
            raise IssuerDown("its keys are not known yet")
        if not (matches := self._find(name)):
            raise UnknownKey
        return matches

    async def keys_replacing(self, key: Key, name: str | None) -> list[Key]:
        """Return the keys of that name after a token turned out not to be signed with `key`: some issuers replace a key
        under the same name. Raises as `keys` does."""
        async with self._lookup_lock:
            if key in self._keys and self._acquire_lookup():
                await self._fetch()
        return await self.keys(name)

    def _has_keys(self) -> bool:
        return self._fetched_at is not None and self._now() - self._fetched_at <= KEYS_TTL_S

    def _is_refresh_due(self) -> bool:
        """Whether the keys are old; not right after a failed attempt."""
        is_fresh = self._fetched_at is not None and self._now() - self._fetched_at <= REFRESH_INTERVAL_S
        return not is_fresh and self._now() - self._attempted_at > LOOKUP_INTERVAL_S

    def _find(self, name: str | None) -> list[Key]:
        if not self._has_keys():
            return []
        return [each for each in self._keys if name is None or each.get("kid") == name]

    async def _refresh(self, name: str | None, *, is_unknown: bool = False) -> None:
        """Fetch the keys, one lookup at a time. Raises IssuerDown if that fails and there are none.

        A caller that waits for a lookup shares its failure, so a slow issuer costs each of them one wait.
        """
        count = self._lookup_count
        async with self._lookup_lock:
            if self._lookup_count == count or self._failure is None:
                if self._find(name) and not self._is_refresh_due():  # while this one waited
                    return
                if is_unknown and not self._acquire_lookup():
                    return
                await self._fetch()
        if self._failure is not None and (is_unknown or not self._has_keys()):
            raise IssuerDown(self._failure)

    async def _fetch(self) -> None:
        try:
            self._keys = await self.fetch_keys()
            self._fetched_at, self._failure = self._now(), None
        except IssuerDown as down:
            logger.warning("the keys of the issuer %s cannot be fetched: %s", self.address, down)
            self._failure = str(down)
        finally:
            self._attempted_at = self._now()
            self._lookup_count += 1

    def _acquire_lookup(self) -> bool:
        """Return whether one more lookup for an unknown key is allowed now, and count it."""
        now = self._now()
        self._lookups_left = min(MAX_LOOKUPS, self._lookups_left + (now - self._lookups_left_at) / LOOKUP_INTERVAL_S)
        self._lookups_left_at = now
        if self._lookups_left < 1:
            return False
        self._lookups_left -= 1
        return True

    async def fetch_keys(self) -> list[Key]:
        """Fetch the issuer's current keys. Raises IssuerDown."""
        try:
            with anyio.fail_after(LOOKUP_TIMEOUT_S):
                async with self._client() as client:
                    return await self._fetch_keys(client)
        except TimeoutError:
            raise IssuerDown(f"it did not answer within {LOOKUP_TIMEOUT_S:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise IssuerDown(f"it cannot be reached ({type(error).__name__})") from None

    def _client(self) -> httpx.AsyncClient:
        if self._ssl_context is None:
            import truststore  # noqa: PLC0415 - the system's roots are loaded at first use

            self._ssl_context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx.AsyncClient(
            verify=self._ssl_context,
            timeout=LOOKUP_TIMEOUT_S,
            headers={"User-Agent": f"sora-mcp/{__version__}"},
            trust_env=self.address.startswith("https:"),  # no proxy to this machine
        )

    async def _fetch_keys(self, client: httpx.AsyncClient) -> list[Key]:
        document = await self._get_json(client, await self._find_jwks_uri(client))
        entries = document.get("keys") if document is not None else None
        if not isinstance(entries, list):
            raise IssuerDown("it gives no keys")
        return [each for each in entries[:MAX_KEYS] if isinstance(each, dict)]

    async def _find_jwks_uri(self, client: httpx.AsyncClient) -> str:
        """Return the `jwks_uri` of the first usable metadata. Raises the first IssuerDown if none are usable."""
        first_error = None
        for address in metadata_addresses(self.address):
            try:
                metadata = await self._get_json(client, address)
                if metadata is not None:
                    return self._jwks_uri_in(metadata)
            except (
                IssuerDown
            ) as down:  # some issuers answer every address with a page, and have metadata at a later one
                first_error = first_error or down
        raise first_error or IssuerDown("it has no metadata at the addresses of RFC 8414 and OpenID Connect")

    def _jwks_uri_in(self, metadata: dict[str, Any]) -> str:
        if metadata.get("issuer") != self.address:
            raise IssuerDown(f"its metadata name another issuer: {str(metadata.get('issuer'))[:200]!r}")
        jwks_uri = metadata.get("jwks_uri")
        if not isinstance(jwks_uri, str) or not is_allowed(jwks_uri):
            raise IssuerDown("its metadata name no https address of keys (jwks_uri)")
        return jwks_uri

    async def _get_json(self, client: httpx.AsyncClient, address: str) -> dict[str, Any] | None:
        """Get a JSON object; None if there is nothing at this address. Raises IssuerDown for any other answer."""
        async with client.stream("GET", address, headers={"Accept": "application/json"}) as response:
            if response.status_code >= 500 or response.status_code == 429:
                raise IssuerDown(f"it answers {response.status_code}")
            if response.status_code != 200:
                return None
            self._measure_skew(response.headers.get("date"))
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise IssuerDown("its answer is too long")
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise IssuerDown("its answer is not a JSON object")
        return document

    def _measure_skew(self, date: str | None) -> None:
        try:
            self.skew_s = (datetime.now(UTC) - parsedate_to_datetime(date or "")).total_seconds()
        except (ValueError, TypeError):
            self.skew_s = None


def metadata_addresses(issuer: str) -> Iterator[str]:
    """Yield the addresses where an issuer's metadata may be, in the order to try them."""
    parts = urlsplit(issuer)
    root, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    yield f"{root}/.well-known/oauth-authorization-server{path}"
    yield f"{root}{path}/.well-known/openid-configuration"
    if path:
        yield f"{root}/.well-known/openid-configuration{path}"


def is_allowed(address: str) -> bool:
    """Whether keys may be fetched from an address: https, or plain http on this machine or network."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_local_host(host)))
