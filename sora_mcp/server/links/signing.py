"""The claims and the signature of a link: it allows one method, for one owner, on one subject, until it expires.

A link is `/USE/CLAIMS.SIGNATURE/NAME`. The signature (HMAC-SHA256) covers the method and the whole path. It is compared
as text: of all encodings of the same bytes, only one is accepted.
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
"""The method that each use allows; HEAD counts as GET, and POST as PUT: the routes list both."""

LINK_TTL_S = 900
"""Seconds for which a link can be used. Transfers that have started continue."""
MAX_PATH_LENGTH = 2000
"""Characters of a link's path; generated ones are far shorter."""

Subject = tuple[str | int, ...]


class UnusableLink(Exception):
    """The link is not this server's, was altered, has expired, or is another owner's; the message says which."""


class Link(Struct, frozen=True):
    """One link. `subject`: what it is about, in the form that its `use` needs. `expires_at`: unix seconds. `name`: the
    file's name for clients that save it."""

    use: Use
    owner: str
    subject: Subject
    expires_at: int
    name: str = ""


class Signer:
    """Signs links and reads them. `keys`: returns the key that signs, and then all that are accepted."""

    def __init__(self, keys: Callable[[], Sequence[bytes]], clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    def sign(self, use: Use, owner: str, subject: Subject, name: str = "") -> str:
        """Return the path of a link that is valid from now on. Raise what `keys` raises."""
        expires_at = int(self._clock()) + LINK_TTL_S
        claims = _encoded(json.dumps([owner, expires_at, *subject], separators=(",", ":")).encode())
        suffix = f"/{name}" if name else ""
        return f"/{use}/{claims}.{_signature(self._keys()[0], use, claims, suffix)}{suffix}"

    def read(self, use: Use, text: str) -> Link:
        """Return the link of a path; `text` is the path after its use. Raise UnusableLink, and what `keys` raises."""
        token, _, name = text.partition("/")
        claims, _, signature = token.rpartition(".")
        if len(text) > MAX_PATH_LENGTH or not _is_signed(self._keys(), signature, use, claims, text[len(token) :]):
            raise UnusableLink("This link is not valid: it was altered, or another server created it.")
        owner, expires_at, *subject = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        if self._clock() >= expires_at:
            raise UnusableLink("This link has expired.")
        return Link(use, owner, tuple(subject), expires_at, name)


def _is_signed(keys: Sequence[bytes], signature: str, use: Use, claims: str, suffix: str) -> bool:
    """Return whether one of the keys signed it; the time that takes reveals nothing about the signature."""
    text = signature.encode("utf-8", "surrogatepass")
    return any(hmac.compare_digest(_signature(key, use, claims, suffix).encode(), text) for key in keys)


def _signature(key: bytes, use: Use, claims: str, suffix: str) -> str:
    message = b"\n".join([b"sora-mcp link", _METHODS[use], f"/{use}/{claims}{suffix}".encode("utf-8", "surrogatepass")])
    return _encoded(hmac.digest(key, message, hashlib.sha256))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
