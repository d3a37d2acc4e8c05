"""Static bearer tokens: one for each name, of which only a hash is kept.

A token is 256 random bits, so that a plain SHA-256 of it can neither be guessed nor turned back.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from sora_mcp.config import converters
from sora_mcp.config.documents import Documents, Kept
from sora_mcp.core.advice import Do
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import NotConfigured, NotFound
from sora_mcp.core.tasks import quoted
from sora_mcp.identity.scopes import SCOPES

PREFIX = "sora_mcp_"
"""What every static token begins with, so that scanners for secrets can know one: `sora_mcp_[0-9a-f]{64}`."""
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?"
"""A name is its person's owner, and may become a folder's name: no `:`, `/` or `#`, no dot first or last."""
NAME_IN_WORDS = "1 to 64 letters, digits or . _ @ -, the first and the last a letter or a digit"

_TOKEN = re.compile(PREFIX + r"[0-9a-f]{64}")
_COST = converters.cost(above_0=True)


class Grant(Struct, frozen=True):
    """What one token gives. `digest`: its SHA-256 in hexadecimal digits. `created_at`: UTC, ISO 8601.

    `max_cost_per_day`: the most that 24 hours of this person may cost; None without a cap of their own.
    """

    name: str
    digest: str
    scopes: tuple[str, ...]
    max_cost_per_day: Cost | None = None
    created_at: str = ""


class TokenStore:
    """The hashes. Everything here raises FileProblem where they cannot be read or written."""

    def __init__(self, documents: Documents) -> None:
        self.document = documents.named("tokens")

    def grants(self) -> tuple[Grant, ...]:
        """All that there are; a document of which one part is wrong holds nothing."""
        return self._grants(self.document.read())

    def add(self, name: str, scopes: tuple[str, ...] | None, cap: Cost | None, *, replace: bool = False) -> str:
        """Make a token, keep its hash, and return it: it cannot be shown again.

        Without `scopes` it gives all of them; a new one in place of the old (`replace`) keeps scopes and cap where
        none are named. Raises NotConfigured for a name that cannot be one, or is there already.
        """
        if not re.fullmatch(NAME, name):
            raise NotConfigured(f"A name has {NAME_IN_WORDS}.", Do("Nothing was added. Choose such a name."))
        token = PREFIX + secrets.token_hex(32)
        with self.document.change() as document:
            grants = self._grants(document)
            same = next((each for each in grants if each.name.lower() == name.lower()), None)
            if same is not None and not (replace and same.name == name):
                raise NotConfigured(
                    f"{same.name} has a token already; names that differ in case only are one.", _INSTEAD
                )
            scopes = scopes or (same.scopes if same else SCOPES)
            cap = cap or (same.max_cost_per_day if same else None)
            new = Grant(name, _digest(token), scopes, cap, datetime.now(UTC).isoformat(timespec="seconds"))
            document["tokens"] = [_entry(each) for each in (*(each for each in grants if each is not same), new)]
        return token

    def revoke(self, name: str) -> None:
        """Take a name out. Raises NotFound where there is none, naming those that there are."""
        with self.document.change() as document:
            grants = self._grants(document)
            others = [each for each in grants if each.name != name]
            if len(others) == len(grants):
                names = ", ".join(each.name for each in grants[:20]) or "none"
                message = f"No token of this name: {quoted(name, 64)}. Names: {names}."
                raise NotFound(message, Do("Nothing was revoked."))
            document["tokens"] = [_entry(each) for each in others]

    def take_over(self, grants: Sequence[Grant]) -> list[str]:
        """Add what another store holds; the names of those that are left out, because such a name is here already."""
        with self.document.change() as document:
            here = self._grants(document)
            names, digests = {each.name.lower() for each in here}, {each.digest for each in here}
            new = [each for each in grants if each.name.lower() not in names and each.digest not in digests]
            document["tokens"] = [_entry(each) for each in (*here, *new)]
        return [each.name for each in grants if each not in (*here, *new)]

    def _grants(self, document: dict[str, Any]) -> tuple[Grant, ...]:
        entries = document.get("tokens", [])
        try:
            grants = tuple(map(_grant, entries))
        except (ValueError, TypeError, KeyError, AttributeError):
            grants = None
        if grants is None or document.keys() - {"tokens"}:
            raise self.document.problem("is damaged: not every entry is a name, a hash and scopes")
        names, digests = {each.name.lower() for each in grants}, {each.digest for each in grants}
        if len(names) < len(grants) or len(digests) < len(grants):
            raise self.document.problem("names somebody twice")
        return grants


_INSTEAD = Do("Nothing was added. Give --replace for a new token in place of the old one, or revoke that first.")


class Tokens:
    """The tokens as a running server sees them."""

    def __init__(self, store: TokenStore) -> None:
        self._grants = Kept(store.document, lambda: {each.digest: each for each in store.grants()})

    def grant(self, token: str) -> Grant | None:
        """What a token gives, None where it is none. Raises FileProblem where that cannot be told."""
        if not _TOKEN.fullmatch(token):
            return None
        digest = _digest(token)
        grant = self._grants.now().get(digest)
        if grant is None or not hmac.compare_digest(grant.digest, digest):
            self._grants.check_current()  # it may have been added just now
            return None
        return grant

    def holds(self, grant: Grant) -> bool:
        """Whether a grant stands unchanged. Raises FileProblem."""
        return self._grants.now().get(grant.digest) == grant

    def has(self, name: str) -> bool:
        """Whether somebody of this name has a token. Raises FileProblem."""
        return any(grant.name == name for grant in self._grants.now().values())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _entry(grant: Grant) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": grant.name, "sha256": grant.digest, "scopes": list(grant.scopes)}
    if grant.max_cost_per_day is not None:
        entry["max_cost_per_day"] = str(grant.max_cost_per_day)
    return entry | {"created_at": grant.created_at}


def _grant(entry: Any) -> Grant:
    """An entry of the file. Raises ValueError, TypeError, KeyError or AttributeError where it is none: a key that is
    not known may be a limit of a newer release."""
    name, digest, scopes, cap = entry["name"], entry["sha256"], entry["scopes"], entry.get("max_cost_per_day")
    is_known = entry.keys() <= {"name", "sha256", "scopes", "max_cost_per_day", "created_at"}
    if not (
        is_known and re.fullmatch(NAME, name) and re.fullmatch(r"[0-9a-f]{64}", digest) and set(scopes) <= set(SCOPES)
    ):
        raise ValueError
    return Grant(
        name, digest, tuple(scopes), None if cap is None else _COST.read(cap), str(entry.get("created_at", ""))
    )
