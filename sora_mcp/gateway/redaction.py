"""Removing the gateway's key from its answers: some gateways repeat the key that they refuse."""

from __future__ import annotations

import re

from sora_mcp.config.converters import MIN_KEY_LENGTH, Secret


class KeyRedactor:
    """Removes a key from what the gateway says."""

    def __init__(self, key: Secret) -> None:
        self._key = key
        self._pattern = _pattern(key.get_secret_value())

    def text(self, text: str) -> str:
        """Return a text without the key."""
        return text if self._pattern is None else self._pattern.sub("[key]", text)

    def content(self, content: bytes) -> bytes:
        """Return a body without the key, whatever its encoding."""
        return self.text(content.decode("latin-1")).encode("latin-1")

    def fragment(self, content: bytes) -> bytes:
        """Return the beginning of a body without the key, and without the start of a key that the cut fell in."""
        return _strip_key_start(self.content(content), self._key.get_secret_value())


def _pattern(key: str) -> re.Pattern[str] | None:
    """A pattern for the key as gateways repeat it: in JSON, or in JSON inside JSON, any letter of it may be escaped
    (RFC 8259 §7), and invisible characters may come between. None for a key so short that it could be any word."""
    if len(key) < MIN_KEY_LENGTH:
        return None
    letters = (rf"(?:\\{{0,8}}{re.escape(letter)}|\\{{1,8}}u00{ord(letter):02x})" for letter in key)
    escape = r"\\{1,8}u(?!00[2-7])[0-9a-f]{4}"
    invisible = rf"(?:(?:\x1b|\\{{1,8}}u001b)\[[0-?]{{0,8}}[@-~]|[^\x20-\x7e]|{escape}){{0,16}}"
    return re.compile(invisible.join(letters), re.IGNORECASE)


def _strip_key_start(content: bytes, key: str) -> bytes:
    """Return the fragment without the start of the key at its end, if the cut fell inside the key."""
    prefix = key.encode()
    for length in range(min(len(prefix), len(content)), 3, -1):
        if content.endswith(prefix[:length]):
            return content[:-length]
    return content
