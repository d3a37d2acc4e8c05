"""The log on stderr: one line of `key=value` pairs for each record, without API keys and signatures."""

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

ERRORS_ONLY = ("httpx", "httpcore", "stamina")
"""Libraries that repeat what `sora_mcp.gateway` logs, or log complete addresses."""
WARNINGS_ONLY = ("mcp", "sse_starlette")
"""Libraries that log session ids and complete messages with their prompts below the level of warnings."""

_QUERY = re.compile(r"(https?://[^\s\"'<>?#]*)[?#][^\s\"'<>]*", re.IGNORECASE)
_UNQUOTED = re.compile(r"[!#-&(-<>-\[\]-~]+")


def set_up(settings: Settings) -> None:
    """Log to stderr at the configured level; the key is redacted wherever it appears, once it is known."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter(lambda: settings.key_to_redact))
    level = settings.log_level
    logging.basicConfig(level=level, handlers=[handler])
    for name in ERRORS_ONLY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in WARNINGS_ONLY:
        logging.getLogger(name).setLevel(logging.WARNING)


class KeyValueFormatter(logging.Formatter):
    """Formats a record as one line, with the pairs in its `fields` (`extra={"fields": {…}}`).

    A value with blanks, quotes or non-ASCII characters is quoted as in JSON. In every record the key is redacted and
    addresses lose their query, which may be a signature.
    """

    def __init__(self, key: Callable[[], str]) -> None:
        super().__init__()
        self._key = key

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line break."""
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
        return text if _UNQUOTED.fullmatch(text) else json.dumps(text)
