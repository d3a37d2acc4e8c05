"""Ids as callers write them, and as names of files.

`task_…#2` names the second variant of a video. A gateway's own id may contain a `#`, too: only an id that the ledger
does not have as it is written is split.
"""

from __future__ import annotations

import hashlib
import re

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.ledger import Entry

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
"""Names that Windows reserves for devices, whatever follows the first dot."""


def without_variant(text: str) -> str:
    """Return the part of `task_…#2` that names the video."""
    return text.strip().partition("#")[0]


def variant_of(text: str, argument: str, entry: Entry | None = None) -> int | None:
    """Return the variant that `task_…#2` names; None if none is named, or if `text` as a whole is an id of `entry`.

    Raises InvalidInput.
    """
    if entry is not None and text.strip() in {entry.task_id, *(g.generation_id for g in entry.generations)}:
        return None
    _, hash_sign, variant = text.strip().partition("#")
    if hash_sign and not re.fullmatch(r"[1-9][0-9]{0,2}", variant):
        raise InvalidInput([Problem(argument, "has no variant number after its #", "task_…#2 for the second")])
    return int(variant) if hash_sign else None


def chosen_variant(text: str, variant: int, entry: Entry) -> int:
    """Return the variant that a call asks for, by `task_…#2` or by its argument. Raises InvalidInput if they differ."""
    named = variant_of(text, "task_id", entry)
    if named is not None and variant not in {1, named}:
        raise InvalidInput([Problem("variant", f"{variant} cannot be combined with #{named}", "one of the two")])
    return named or variant


def file_stem(entry: Entry) -> str:
    """Return the stem of a video's file names: its id if every file system accepts that, else a hash of it."""
    name = entry.task_id or entry.request_id
    is_plain = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", name) and not _RESERVED.match(name)
    return name if is_plain else f"video-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
