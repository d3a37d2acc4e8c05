"""Ids as callers write them, and as names of files.

`task_…#2` names the second variant of a video. A gateway's own id may contain a `#`, too: only an id that the ledger
does not have as it is written is split.
"""

from __future__ import annotations

import hashlib
import re

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.tasks import Generation
from sora_mcp.ledger import Entry

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
"""Names that Windows reserves for devices, whatever follows the first dot."""


def without_variant(text: str) -> str:
    """Return the part of `task_…#2` that names the video."""
    return text.strip().partition("#")[0]


def variant_of(text: str, argument: str, entry: Entry | None = None) -> int | None:
    """Return the variant that `task_…#2` or the id of a generation of `entry` names; None if none is named, or if
    `text` as a whole is the id of its task.

    Raises InvalidInput.
    """
    text = text.strip()
    if entry is not None:
        if text == entry.task_id:
            return None
        if generation := generation_of(text, entry):
            return generation.variant
    name, hash_sign, variant = text.partition("#")
    if hash_sign and not re.fullmatch(r"[1-9][0-9]{0,2}", variant):
        raise InvalidInput([Problem(argument, "has no variant number after its #", "task_…#2 for the second")])
    if hash_sign and entry is not None and name != entry.task_id and generation_of(name, entry):
        raise InvalidInput([Problem(argument, "has a # after the id of one variant", "gen_… or task_…#2")])
    return int(variant) if hash_sign else None


def generation_of(text: str, entry: Entry) -> Generation | None:
    """Return the generation of `entry` that has this id, or None."""
    return next((each for each in entry.generations if each.generation_id == text), None)


def file_stem(entry: Entry) -> str:
    """Return the stem of a video's file names: its id if every file system accepts that, else a hash of it."""
    name = entry.task_id or entry.request_id
    is_plain = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", name) and not _RESERVED.match(name)
    return name if is_plain else f"video-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
