"""People's own keys for the gateway, if members of a team have their own: never accepted from a request.

A key is bound to the gateway address it was stored for, and is sent to no other.
"""

from __future__ import annotations

from sora_mcp.config.converters import Secret
from sora_mcp.config.documents import Cached, Documents
from sora_mcp.core.accounts import canonical_address


class UpstreamKeys:
    """The stored keys, in clear text. All methods raise FileProblem if they cannot be read or written."""

    def __init__(self, documents: Documents) -> None:
        self._document = documents.named("upstream-keys")
        self._keys = Cached(self._document, self._read)

    def get(self, owner: str, base_url: str) -> Secret | None:
        """Return an owner's own key for a gateway, or None if they use the team's.

        Raises FileProblem if the keys cannot be read, so that nobody pays with another's key by mistake.
        """
        return self._keys.now().get((owner, canonical_address(base_url)))

    def owners(self) -> list[str]:
        """Return the owners who have keys, each once."""
        return list(dict.fromkeys(owner for owner, _ in self._read()))

    def store(self, owner: str, base_url: str, key: Secret) -> None:
        """Store a key, replacing an earlier one."""
        with self._document.change() as document:
            keys = document.setdefault("keys", {})
            keys.setdefault(owner, {})[canonical_address(base_url)] = key.get_secret_value()

    def has(self, owner: str) -> bool:
        """Whether an owner has a key of their own for any gateway. Raises FileProblem."""
        return any(each == owner for each, _ in self._read())

    def remove(self, owner: str) -> bool:
        """Remove an owner's keys; return whether there were any."""
        with self._document.change() as document:
            return document.get("keys", {}).pop(owner, None) is not None

    def import_from(self, others: UpstreamKeys) -> tuple[list[str], list[str]]:
        """Add another store's keys; return the owners of imported (or identical) keys, and the owners of keys left out
        because they have a different one.
        """
        imported: list[str] = []
        left_out: list[str] = []
        with self._document.change() as document:
            keys = document.setdefault("keys", {})
            for (owner, address), key in others._read().items():
                stored = keys.setdefault(owner, {}).setdefault(address, key.get_secret_value())
                owners = imported if stored == key.get_secret_value() else left_out
                owners += [owner] if owner not in owners else []
        return imported, left_out

    def _read(self) -> dict[tuple[str, str], Secret]:
        keys: dict[tuple[str, str], Secret] = {}
        try:
            for owner, entries in self._document.read().get("keys", {}).items():
                keys |= {(owner, address): Secret(_validate(key)) for address, key in entries.items()}
        except (AttributeError, TypeError):
            raise self._document.problem("is damaged: not every entry is an owner with addresses and keys") from None
        return keys


def _validate(key: object) -> str:
    """Return a stored key. Raises TypeError if it is not a key."""
    if not isinstance(key, str) or not key:
        raise TypeError
    return key
