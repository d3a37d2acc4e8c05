"""Static bearer tokens: one for each name; only its hash is stored.

A token is 256 random bits, so its plain SHA-256 can neither be guessed nor reversed.
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
from sora_mcp.config.documents import Cached, Documents
from sora_mcp.core.advice import Do
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import NotConfigured, NotFound
from sora_mcp.core.tasks import quoted
from sora_mcp.identity.scopes import SCOPES

PREFIX = "sora_mcp_"
"""The prefix of every static token, by which secret scanners recognize one: `sora_mcp_[0-9a-f]{64}`."""
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?"
"""A name is that person's owner, and may become a folder name: no `:`, `/` or `#`, no leading or trailing dot."""
NAME_RULE = "1 to 64 letters, digits or . _ @ -, the first and the last a letter or a digit"

_TOKEN = re.compile(PREFIX + r"[0-9a-f]{64}")
_COST = converters.cost(positive=True)


class Grant(Struct, frozen=True):
    """What one token grants. `digest`: its SHA-256 in hexadecimal. `created_at`: UTC, ISO 8601.

    `max_cost_per_day`: this person's cap for 24 hours; None if they have no cap of their own.
    """

    name: str
    digest: str
    scopes: tuple[str, ...]
    max_cost_per_day: Cost | None = None
    created_at: str = ""


class TokenStore:
    """The stored hashes. All methods raise FileProblem if they cannot be read or written."""

    def __init__(self, documents: Documents) -> None:
        self.document = documents.named("tokens")

    def grants(self) -> tuple[Grant, ...]:
        """Return all grants. One invalid entry makes the whole document invalid."""
        return self._parse_grants(self.document.read())

    def add(self, name: str, scopes: tuple[str, ...] | None, cap: Cost | None, *, replace: bool = False) -> str:
        """Create a token, store its hash, and return it: it cannot be shown again.

        Without `scopes` it has all of them; one that replaces another (`replace`) keeps scopes and cap that are not
        given. Raises NotConfigured if the name is invalid or already exists.
        """
        if not re.fullmatch(NAME, name):
            raise NotConfigured(f"A name has {NAME_RULE}.", Do("Nothing was added. Choose such a name."))
        token = PREFIX + secrets.token_hex(32)
        with self.document.change() as document:
            grants = self._parse_grants(document)
            same = next((each for each in grants if each.name.lower() == name.lower()), None)
            if same is not None and not (replace and same.name == name):
                raise NotConfigured(
                    f"{same.name} has a token already; names that differ in case only are one.", _USE_REPLACE
                )
            scopes = scopes or (same.scopes if same else SCOPES)
            cap = cap or (same.max_cost_per_day if same else None)
            new = Grant(name, _digest(token), scopes, cap, datetime.now(UTC).isoformat(timespec="seconds"))
            document["tokens"] = [_to_entry(each) for each in (*(each for each in grants if each is not same), new)]
        return token

    def revoke(self, name: str) -> None:
        """Remove a name. Raises NotFound, listing the existing names, if it does not exist."""
        with self.document.change() as document:
            grants = self._parse_grants(document)
            others = [each for each in grants if each.name != name]
            if len(others) == len(grants):
                names = ", ".join(each.name for each in grants[:20]) or "none"
                message = f"No token of this name: {quoted(name, 64)}. Names: {names}."
                raise NotFound(message, Do("Nothing was revoked."))
            document["tokens"] = [_to_entry(each) for each in others]

    def import_grants(self, grants: Sequence[Grant]) -> list[str]:
        """Add another store's grants; return the names of those left out because the name already exists."""
        with self.document.change() as document:
            existing = self._parse_grants(document)
            names, digests = {each.name.lower() for each in existing}, {each.digest for each in existing}
            new = [each for each in grants if each.name.lower() not in names and each.digest not in digests]
            document["tokens"] = [_to_entry(each) for each in (*existing, *new)]
        return [each.name for each in grants if each not in (*existing, *new)]

    def _parse_grants(self, document: dict[str, Any]) -> tuple[Grant, ...]:
        entries = document.get("tokens", [])
        try:
            grants = tuple(map(_parse_grant, entries))
        except (ValueError, TypeError, KeyError, AttributeError):
            grants = None
        if grants is None or document.keys() - {"tokens"}:
            raise self.document.problem("is damaged: not every entry is a name, a hash and scopes")
        names, digests = {each.name.lower() for each in grants}, {each.digest for each in grants}
        if len(names) < len(grants) or len(digests) < len(grants):
            raise self.document.problem("names somebody twice")
        return grants


_USE_REPLACE = Do("Nothing was added. Give --replace for a new token in place of the old one, or revoke that first.")


class Tokens:
    """The tokens of a running server."""

    def __init__(self, store: TokenStore) -> None:
        self._by_digest = Cached(store.document, lambda: {each.digest: each for each in store.grants()})

    def grant(self, token: str) -> Grant | None:
        """Return a token's grant, or None if it is invalid. Raises FileProblem if that cannot be determined."""
        if not _TOKEN.fullmatch(token):
            return None
        digest = _digest(token)
        grant = self._by_digest.now().get(digest)
        if grant is None or not hmac.compare_digest(grant.digest, digest):
            self._by_digest.check_current()  # it may have been added just now
            return None
        return grant

    def is_current(self, grant: Grant) -> bool:
        """Whether a grant still exists unchanged. Raises FileProblem."""
        return self._by_digest.now().get(grant.digest) == grant

    def has(self, name: str) -> bool:
        """Whether this name has a token. Raises FileProblem."""
        return any(grant.name == name for grant in self._by_digest.now().values())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _to_entry(grant: Grant) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": grant.name, "sha256": grant.digest, "scopes": list(grant.scopes)}
    if grant.max_cost_per_day is not None:
        entry["max_cost_per_day"] = str(grant.max_cost_per_day)
    return entry | {"created_at": grant.created_at}


def _parse_grant(entry: Any) -> Grant:
    """Parse an entry of the file. Raises ValueError, TypeError, KeyError or AttributeError if it is invalid; so is an
    unknown key, because it may be a limit from a newer release."""
    name, digest, scopes, cap = entry["name"], entry["sha256"], entry["scopes"], entry.get("max_cost_per_day")
    is_known = entry.keys() <= {"name", "sha256", "scopes", "max_cost_per_day", "created_at"}
    if not (
        is_known and re.fullmatch(NAME, name) and re.fullmatch(r"[0-9a-f]{64}", digest) and set(scopes) <= set(SCOPES)
    ):
        raise ValueError
    return Grant(
        name, digest, tuple(scopes), None if cap is None else _COST.read(cap), str(entry.get("created_at", ""))
    )
