"""People's own keys of the gateway, where a team has one for each: never taken from a request.

A key is bound to the gateway's address for which it was stored, and is sent to no other.
"""

from __future__ import annotations

from sora_mcp.config.converters import Secret
from sora_mcp.config.documents import Documents, Kept
from sora_mcp.core.accounts import canonical_address


class UpstreamKeys:
    """The keys, in clear text. Everything here raises FileProblem where they cannot be read or written."""

    def __init__(self, documents: Documents) -> None:
        self._document = documents.named("upstream-keys")
        self._keys = Kept(self._document, self._read)

    def of(self, owner: str, base_url: str) -> Secret | None:
        """An owner's own key at a gateway; None where they have none, and use the team's.

        Keys that cannot be read are a FileProblem, so that nobody pays with another's key by mistake.
        """
        return self._keys.now().get((owner, canonical_address(base_url)))

    def owners(self) -> list[str]:
        """Whose keys there are, each named once."""
        return list(dict.fromkeys(owner for owner, _ in self._read()))

    def store(self, owner: str, base_url: str, key: Secret) -> None:
        """Keep a key, in place of an earlier one."""
        with self._document.change() as document:
            keys = document.setdefault("keys", {})
            keys.setdefault(owner, {})[canonical_address(base_url)] = key.get_secret_value()

    def has(self, owner: str) -> bool:
        """Whether an owner has a key of their own, at whichever gateway. Raises FileProblem."""
        return any(each == owner for each, _ in self._read())

    def remove(self, owner: str) -> bool:
        """Forget an owner's keys; whether there were any."""
        with self._document.change() as document:
            return document.get("keys", {}).pop(owner, None) is not None

    def take_over(self, others: UpstreamKeys) -> tuple[list[str], list[str]]:
        """Add what another store holds; the owners of keys that are here now, and of those that are left out, because
        there is another one here.
        """
        taken: list[str] = []
        left_out: list[str] = []
        with self._document.change() as document:
            keys = document.setdefault("keys", {})
            for (owner, address), key in others._read().items():
                kept = keys.setdefault(owner, {}).setdefault(address, key.get_secret_value())
                owners = taken if kept == key.get_secret_value() else left_out
                owners += [owner] if owner not in owners else []
        return taken, left_out

    def _read(self) -> dict[tuple[str, str], Secret]:
        keys: dict[tuple[str, str], Secret] = {}
        try:
            for owner, entries in self._document.read().get("keys", {}).items():
                keys |= {(owner, address): Secret(_text(key)) for address, key in entries.items()}
        except (AttributeError, TypeError):
            raise self._document.problem("is damaged: not every entry is an owner with addresses and keys") from None
        return keys


def _text(key: object) -> str:
    """A key as it was stored. Raises TypeError for what is none."""
    if not isinstance(key, str) or not key:
        raise TypeError
    return key
