"""Folders of people who share a server: each has their own, with a name that no other owner's folder can have."""

from __future__ import annotations

import hashlib
import re

_MAX_READABLE = 32
"""Characters of the owner's name that are kept in the name of the folder."""


def owner_folder(owner: str) -> str:
    """Return the name of an owner's folder, valid on every file system: the readable part of their name and a hash of
    all of it.

    It is one segment of a path, of lower-case letters, digits and dashes, whatever `owner` is. Two owners share it only
    if their names are equal.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", owner.lower())[:_MAX_READABLE].strip("-")
    digest = hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{readable}-{digest}" if readable else digest
