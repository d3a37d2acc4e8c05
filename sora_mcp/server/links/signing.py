"""What a link of ours says, and how it is signed: it allows one method, of one owner, on one thing, until a time.

A link is `/USE/CLAIMS.SIGNATURE/NAME`. The signature (HMAC-SHA256) is over all of its path and the method. It is
compared as it is written: of all ways to write the same bytes, one is accepted.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

Use = Literal["videos", "images"]
"""What a link is for: to fetch a video, or to send an image."""
_METHODS: dict[Use, bytes] = {"videos": b"GET", "images": b"PUT"}
"""What each allows; HEAD counts as GET, and POST as PUT: both are named in the routes."""

LASTS_S = 900
"""Seconds for which a link can be used. What began before goes on."""
MOST_CHARACTERS = 2000
"""Of a link's path; those that are made are far shorter."""

Subject = tuple[str | int, ...]


class UnusableLink(Exception):
    """The link is none of ours, was altered, has expired, or is another owner's; the message says which."""


class Link(Struct, frozen=True):
    """One link. `owner`: whose it is. `subject`: what it is about, as its `use` needs it. `expires_at`: UTC, in seconds
    since 1970. `name`: how the file is called, for whoever saves it."""

    use: Use
    owner: str
    subject: Subject
    expires_at: int
    name: str = ""


class Signer:
    """Signs links and reads them. `keys`: the one that signs first, and all that are accepted."""

    def __init__(self, keys: Callable[[], Sequence[bytes]], clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    def sign(self, use: Use, owner: str, subject: Subject, name: str = "") -> str:
        """The path of a link that can be used from now on. Raises what `keys` raises."""
        expires_at = int(self._clock()) + LASTS_S
        claims = _encoded(json.dumps([owner, expires_at, *subject], separators=(",", ":")).encode())
        rest = f"/{name}" if name else ""
        return f"/{use}/{claims}.{_signature(self._keys()[0], use, claims, rest)}{rest}"

    def read(self, use: Use, text: str) -> Link:
        """The link of a path; `text` is what stands behind its use. Raises UnusableLink, and what `keys` raises."""
        token, _, name = text.partition("/")
        claims, _, signature = token.rpartition(".")
        if len(text) > MOST_CHARACTERS or not _is_signed(self._keys(), signature, use, claims, text[len(token) :]):
            raise UnusableLink("This link is not valid: it was altered, or is not of this server.")
        owner, expires_at, *subject = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        if self._clock() >= expires_at:
            raise UnusableLink("This link has expired.")
        return Link(use, owner, tuple(subject), expires_at, name)


def _is_signed(keys: Sequence[bytes], signature: str, use: Use, claims: str, rest: str) -> bool:
    """Whether one of the keys signed it; how long that takes tells nothing of the signature."""
    text = signature.encode("utf-8", "surrogatepass")
    return any(hmac.compare_digest(_signature(key, use, claims, rest).encode(), text) for key in keys)


def _signature(key: bytes, use: Use, claims: str, rest: str) -> str:
    signed = b"\n".join([b"sora-mcp link", _METHODS[use], f"/{use}/{claims}{rest}".encode("utf-8", "surrogatepass")])
    return _encoded(hmac.digest(key, signed, hashlib.sha256))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
