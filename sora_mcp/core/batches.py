"""The lines of a batch file, and the keys by which each is recognized, so that it is never paid for twice."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct


class BatchLine(Struct, frozen=True):
    """One line of the batch file named `file` (without its folder).

    `key` identifies it at one gateway, for one owner: its own name, or its file, its `digest` and its count among equal
    lines. `digest`: a hash of what it asks for. `after`: the failed request of this line that is made again; None if it
    is sent for the first time. `keys`: those of all lines of the file as it is now, none of which is a duplicate of
    another.
    """

    file: str
    key: str
    digest: str
    after: str | None = None
    keys: frozenset[str] = frozenset()


def key_of_name(name: str) -> str:
    """Return the key of a line that has a name, whatever its file."""
    return f"name:{name}"


def keys_of_unnamed(file: str, digests: Iterable[str]) -> list[str]:
    """Return the keys of lines without a name, in the order of the file."""
    counts: Counter[str] = Counter()
    keys = []
    for digest in digests:
        counts[digest] += 1
        keys.append(f"line:{digest}:{counts[digest]}:{file}")
    return keys


def digest_of(operation: str, arguments: Mapping[str, Any]) -> str:
    """Return a hash of what a line asks for: 32 hexadecimal digits, whatever its spacing and the order of its keys.

    Raises UnicodeEncodeError for a lone surrogate.
    """
    text = json.dumps([operation, arguments], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
