"""Ids of tasks and generations: a gateway's own words, which stand in paths and addresses."""

from __future__ import annotations

import re
from urllib.parse import quote

MAX_ID = 300
"""Characters of the longest id."""


def is_id(text: str) -> bool:
    """Whether `text` can be the id of a task or a generation: 1 to 300 printable characters without spaces.

    It goes into paths and addresses percent-encoded (`quoted`), where `.` and `..` would still lead elsewhere: they are
    none, nor is what has one of them between slashes, since some proxies decode those.
    """
    leads_elsewhere = {".", ".."}.intersection(re.split(r"[/\\]", text))
    return 0 < len(text) <= MAX_ID and text.isprintable() and " " not in text and not leads_elsewhere


def quoted(text: str) -> str:
    """An id as one segment of a path: everything percent-encoded but letters, digits and `_ . - ~` (RFC 3986 §2.3)."""
    return quote(text, safe="")
