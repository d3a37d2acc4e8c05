"""The log on stderr: one `key=value` line for each record, without the key and without signatures."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sora_mcp.config.converters import MIN_KEY_LENGTH
from sora_mcp.config.settings import Settings

QUIET = ("httpx", "httpcore", "stamina")
"""Libraries that repeat what `sora_mcp.gateway` logs, or log whole addresses."""
TALKATIVE = ("mcp", "sse_starlette")
"""Libraries that log ids of sessions, and whole messages with their prompts, below warnings."""

_QUERY = re.compile(r"(https?://[^\s\"'<>?#]*)[?#][^\s\"'<>]*", re.IGNORECASE)
_BARE = re.compile(r"[!#-&(-<>-\[\]-~]+")


def set_up(settings: Settings) -> None:
    """Log to stderr as the settings say; the key is struck wherever it would stand, once it is known."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(lambda: settings.key_to_redact))
    level = settings.log_level
    logging.basicConfig(level=level, handlers=[handler])
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


class Lines(logging.Formatter):
    """Writes a record as one line, with the pairs that stand in its `fields` (`extra={"fields": {…}}`).

    A value with blanks, quotes or other than ASCII characters stands in quotes, as in JSON. Whoever logged it, the
    key is struck and addresses lose their query, which may be a signature.
    """

    def __init__(self, key: Callable[[], str]) -> None:
        super().__init__()
        self._key = key

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        pairs: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        pairs |= getattr(record, "fields", {})
        if record.exc_info:
            pairs["traceback"] = self.formatException(record.exc_info)
        return " ".join(f"{name}={self._value(value)}" for name, value in pairs.items() if value is not None)

    def _value(self, value: object) -> str:
        text = _QUERY.sub(r"\1", str(value))
        if len(key := self._key()) >= MIN_KEY_LENGTH:
            text = text.replace(key, "[key]")
        return text if _BARE.fullmatch(text) else json.dumps(text)
