"""Ids as callers write them, and as names of files.

`task_…#2` names the second variant of a video. A gateway's own id may hold a `#`, too: an id that stands in the ledger
as it is written is that one, and only what does not is taken apart.
"""

from __future__ import annotations

import hashlib
import re

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.ledger import Entry

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
"""What Windows takes for a device, whatever stands behind the first dot."""


def without_variant(text: str) -> str:
    """The part of `task_…#2` that names the video."""
    return text.strip().partition("#")[0]


def variant_of(text: str, where: str, entry: Entry | None = None) -> int | None:
    """The variant that `task_…#2` names; None where none is named, or where `text` is an id of `entry` as it stands.

    Raises InvalidInput.
    """
    if entry is not None and text.strip() in {entry.task_id, *(g.generation_id for g in entry.generations)}:
        return None
    _, hash_sign, variant = text.strip().partition("#")
    if hash_sign and not re.fullmatch(r"[1-9][0-9]{0,2}", variant):
        raise InvalidInput([Problem(where, "has no variant number after its #", "task_…#2 for the second")])
    return int(variant) if hash_sign else None


def file_stem(entry: Entry) -> str:
    """How the files of a video are named: after its id where every file system takes that as it is, else after a hash
    of it."""
    name = entry.task_id or entry.request_id
    is_plain = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", name) and not _RESERVED.match(name)
    return name if is_plain else f"video-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
