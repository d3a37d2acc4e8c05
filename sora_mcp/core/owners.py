"""Folders of people who share a server: each has their own, under a name that no other owner's folder can have."""

from __future__ import annotations

import hashlib
import re

_READABLE = 32
"""Characters of an owner's name that can be read in the name of their folder."""


def owner_folder(owner: str) -> str:
    """The name of an owner's folder, on every file system: what can be read of their name, and a hash of all of it.

    It is one part of a path, of small letters, digits and dashes, whatever `owner` is. Two owners have the same only
    where their names are the same.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", owner.lower())[:_READABLE].strip("-")
    digest = hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{readable}-{digest}" if readable else digest
