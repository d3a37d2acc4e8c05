"""Who owns a request: an account is a gateway's address, a key's fingerprint and an owner."""

from __future__ import annotations

import hashlib
import hmac
import re
from functools import lru_cache

from msgspec import Struct


class Account(Struct, frozen=True):
    """One account. Two are equal if all three fields are: no field is ever parsed out of a text.

    `address`: the gateway's canonical address. `key_fingerprint`: 16 hexadecimal digits that tell keys apart without
    revealing them. `owner`: the setting SORA_OWNER, or "" if it is not set.
    """

    address: str
    key_fingerprint: str = ""
    owner: str = ""

    @classmethod
    def for_key(cls, salt: bytes, base_url: str, api_key: str, owner: str = "") -> Account:
        """Return the account of a key at a gateway; `salt` is the ledger's own."""
        return cls(canonical_address(base_url), fingerprint(salt, api_key), owner)

    @property
    def person(self) -> Person:
        """The owner at this gateway, whatever the key."""
        return Person(self.address, self.owner)

    def shares_requests_with(self, other: Account) -> bool:
        """Whether the two accounts see each other's requests: same gateway and owner, whatever the key."""
        return (self.address, self.owner) == (other.address, other.owner)


class Person(Struct, frozen=True):
    """All rows of one owner at one gateway, whatever key made them. `address` is the gateway's canonical one."""

    address: str
    owner: str


class Team(Struct, frozen=True):
    """All rows at one gateway, whatever key and owner made them. `address` is the gateway's canonical one."""

    address: str


def fingerprint(salt: bytes, api_key: str) -> str:
    """Return 16 hexadecimal digits that identify a key without revealing it."""
    return hmac.new(salt, api_key.encode(), hashlib.sha256).hexdigest()[:16]


@lru_cache(maxsize=100)
def canonical_address(base_url: str) -> str:
    """Return a gateway's address with the names of this machine made one: a caller who paid at `localhost` must not pay
    again at 127.0.0.1."""
    return re.sub(r"//(localhost|0\.0\.0\.0|\[::1?\])(?=[:/]|$)", "//127.0.0.1", base_url)
