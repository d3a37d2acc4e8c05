"""Ids of tasks and generations. The gateway chooses them, and they are used in paths and addresses."""

from __future__ import annotations

import re
from urllib.parse import quote

MAX_ID_LENGTH = 300
"""Characters."""


def is_id(text: str) -> bool:
    """Whether `text` can be the id of a task or a generation: 1 to 300 printable characters without spaces.

    Ids go into paths and addresses percent-encoded (`path_segment`), which does not defuse `.` and `..`: those are
    refused, also between slashes, because some proxies decode those.
    """
    is_relative_path = {".", ".."}.intersection(re.split(r"[/\\]", text))
    return 0 < len(text) <= MAX_ID_LENGTH and text.isprintable() and " " not in text and not is_relative_path


def path_segment(text: str) -> str:
    """Return an id as one segment of a path. All characters are percent-encoded except letters, digits and `_ . - ~`
    (RFC 3986 §2.3)."""
    return quote(text, safe="")
