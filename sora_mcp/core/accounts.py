"""Whose requests are kept: an account is a gateway's address, a key's fingerprint, and an owner."""

from __future__ import annotations

import hashlib
import hmac
import re
from functools import lru_cache

from msgspec import Struct


class Account(Struct, frozen=True):
    """One account. Two are the same where all three are: nothing is ever cut out of a text.

    `address`: the gateway's canonical address. `key_fingerprint`: 16 hexadecimal digits, which tell keys apart and hold
    none. `owner`: the setting SORA_OWNER, "" without one.
    """

    address: str
    key_fingerprint: str = ""
    owner: str = ""

    @classmethod
    def of_key(cls, salt: bytes, base_url: str, api_key: str, owner: str = "") -> Account:
        """The account of a key at a gateway; `salt` is the ledger's own."""
        return cls(canonical_address(base_url), fingerprint(salt, api_key), owner)

    @property
    def person(self) -> Person:
        """Whose it is."""
        return Person(self.address, self.owner)

    def shares_requests_with(self, other: Account) -> bool:
        """Whether a request of the other one is one of this one's, too: same gateway and owner, whatever key."""
        return (self.address, self.owner) == (other.address, other.owner)


class Person(Struct, frozen=True):
    """One owner's rows at one gateway, whatever key each was made with: `address` is the gateway's canonical one."""

    address: str
    owner: str


class Team(Struct, frozen=True):
    """Everybody whose rows are of one gateway, whatever key and owner: `address` is the gateway's canonical one."""

    address: str


def fingerprint(salt: bytes, api_key: str) -> str:
    """What tells a key from others: 16 hexadecimal digits from which nobody can tell the key."""
    return hmac.new(salt, api_key.encode(), hashlib.sha256).hexdigest()[:16]


@lru_cache(maxsize=100)
def canonical_address(base_url: str) -> str:
    """A gateway's address. The names of this machine are one: who pays at `localhost` must not pay again at
    127.0.0.1."""
    return re.sub(r"//(localhost|0\.0\.0\.0|\[::1?\])(?=[:/]|$)", "//127.0.0.1", base_url)
