"""The gateway's key where it must not be seen: some gateways repeat in their answers the one that they refuse."""

from __future__ import annotations

import re

from sora_mcp.config.converters import MIN_KEY_LENGTH, Secret


class Striker:
    """Takes a key out of what the gateway says."""

    def __init__(self, key: Secret) -> None:
        self._key = key
        self._pattern = _pattern(key.get_secret_value())

    def text(self, text: str) -> str:
        """A text without the key."""
        return text if self._pattern is None else self._pattern.sub("[key]", text)

    def content(self, content: bytes) -> bytes:
        """A body without the key, whatever it is encoded in."""
        return self.text(content.decode("latin-1")).encode("latin-1")

    def fragment(self, content: bytes) -> bytes:
        """The beginning of a body without the key, and without the start of one where the cut fell inside it."""
        return _without_start(self.content(content), self._key.get_secret_value())


def _pattern(key: str) -> re.Pattern[str] | None:
    """A key as some gateways repeat one that they refuse: in JSON, or in JSON inside JSON, any letter of it may be
    escaped (RFC 8259 §7), and what nobody sees may stand between. None for one so short that it could be any word."""
    if len(key) < MIN_KEY_LENGTH:
        return None
    letters = (rf"(?:\\{{0,8}}{re.escape(letter)}|\\{{1,8}}u00{ord(letter):02x})" for letter in key)
    escape = r"\\{1,8}u(?!00[2-7])[0-9a-f]{4}"
    unseen = rf"(?:(?:\x1b|\\{{1,8}}u001b)\[[0-?]{{0,8}}[@-~]|[^\x20-\x7e]|{escape}){{0,16}}"
    return re.compile(unseen.join(letters), re.IGNORECASE)


def _without_start(content: bytes, key: str) -> bytes:
    """A fragment that does not end in the start of the key, where the cut fell inside it."""
    start = key.encode()
    for length in range(min(len(start), len(content)), 3, -1):
        if content.endswith(start[:length]):
            return content[:-length]
    return content
