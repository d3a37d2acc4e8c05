"""The rotating keys that sign links: `{"format": 1, "keys": [{"key": "…", "made_at": …}, …]}`.

Newest first. A new one is created each day, and is accepted from then on; it signs once every server that shares the
keys knows it, and is accepted until the last link that it signed has expired. A key may also be added by hand, as its
hexadecimal digits alone: it signs at once, and stays until it is removed.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct

from sora_mcp.config.documents import Documents
from sora_mcp.core.advice import AskUser
from sora_mcp.core.errors import FileProblem
from sora_mcp.server.links.signing import LINK_TTL_S

logger = logging.getLogger(__name__)

KEY_BYTES = 32
ROTATION_INTERVAL_S = 86_400.0
"""Seconds for which a key is the newest one."""
PROPAGATION_DELAY_S = 300.0
"""Seconds after which each server either knows a new key, or cannot read any and refuses links."""
_KEY = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}")


class _Key(Struct, frozen=True):
    digits: str
    made_at: float | None
    """Unix seconds; None for a key that was added by hand."""

    @property
    def entry(self) -> object:
        return self.digits if self.made_at is None else {"key": self.digits, "made_at": self.made_at}

    def is_older_than(self, seconds: float, now: float) -> bool:
        """Return whether it was created more than `seconds` ago; never for one added by hand."""
        return self.made_at is not None and now - self.made_at > seconds


class LinkKeys:
    """The keys of all servers that share `documents`; the first one is created if there is none. `clock`: unix seconds,
    the same for all of them."""

    def __init__(self, documents: Documents, clock: Callable[[], float]) -> None:
        self._document = documents.named("link-keys")
        self._clock = clock

    def read(self) -> list[bytes]:
        """Return the keys, the one that signs first. Raise FileProblem without a path: users of links see it."""
        now = self._clock()
        try:
            keys = self._keys(self._document.read())
            if not keys:
                keys = self._rotate(now)
            elif keys[0].is_older_than(ROTATION_INTERVAL_S, now):
                keys = self._rotate_if_possible(now) or keys
        except FileProblem as problem:
            logger.error("links cannot be used: %s", problem.message)  # noqa: TRY400 - the message says it all
            message = "This server cannot use its keys for signing links now."
            raise FileProblem(message, AskUser("tell whoever runs this server")) from None
        signing_key = next((key for key in keys if not _is_too_new(key, now)), keys[-1])
        return [bytes.fromhex(key.digits) for key in (signing_key, *keys)]

    def _rotate(self, now: float) -> list[_Key]:
        """Add a new key before the others, unless another server has just done so. Raise FileProblem."""
        with self._document.change() as document:
            keys = self._keys(document)
            if not keys or keys[0].is_older_than(ROTATION_INTERVAL_S, now):
                keys = [_Key(secrets.token_hex(KEY_BYTES), now), *_still_needed(keys, now)]
                document["keys"] = [key.entry for key in keys]
        return keys

    def _rotate_if_possible(self, now: float) -> list[_Key] | None:
        try:
            self._document.check_current()  # users of links do not wait for an unavailable database
            return self._rotate(now)
        except FileProblem as problem:
            logger.info("the keys for signing links cannot be rotated now: %s", problem.message)
            return None

    def _keys(self, document: dict[str, Any]) -> list[_Key]:
        """Return the keys of a document, none if it is empty. Raise FileProblem."""
        entries = document.get("keys")
        if not document:
            return []
        if document.keys() != {"keys"} or not isinstance(entries, list) or not entries:
            raise self._document.problem("is damaged: it does not hold keys")
        try:
            return list(map(_key, entries))
        except ValueError:
            raise self._document.problem(f"is damaged: a key is {2 * KEY_BYTES} hexadecimal digits") from None


def _is_too_new(key: _Key, now: float) -> bool:
    return key.made_at is not None and now - key.made_at < PROPAGATION_DELAY_S


def _still_needed(keys: Sequence[_Key], now: float) -> list[_Key]:
    """Return the keys without those whose last link has expired."""
    needed = list(keys[:1])
    for newer, key in pairwise(keys):
        if not newer.is_older_than(PROPAGATION_DELAY_S + 2 * LINK_TTL_S, now) or key.made_at is None:
            needed.append(key)
    return needed


def _key(entry: object) -> _Key:
    """Parse a stored key. Raise ValueError if it is not one."""
    digits, made_at = entry, None
    if isinstance(entry, dict) and entry.keys() == {"key", "made_at"}:
        digits, made_at = entry["key"], entry["made_at"]
        if not isinstance(made_at, int | float):
            raise ValueError
    if not isinstance(digits, str) or not _KEY.fullmatch(digits):
        raise ValueError
    return _Key(digits, made_at)
