"""The lines of a batch file: what one is known by, so that it is never paid for twice."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct


class BatchLine(Struct, frozen=True):
    """One line of the batch file that is called `file` (without its folder).

    `key`: what it is known by at one gateway, for one owner: its own name, or its file, its `digest` and its count
    among equal lines. `digest`: a hash of what it asks for. `after`: the request of this line that came to nothing
    and is to be made again; None where it is sent for the first time. `keys`: those of all lines of the file as it is
    now, of which none is a duplicate of another.
    """

    file: str
    key: str
    digest: str
    after: str | None = None
    keys: frozenset[str] = frozenset()


def key_of_name(name: str) -> str:
    """The key of a line that has a name, in whatever file it stands."""
    return f"name:{name}"


def keys_of_unnamed(file: str, digests: Iterable[str]) -> list[str]:
    """The keys of lines without a name, in the order in which they stand in the file."""
    counts: Counter[str] = Counter()
    keys = []
    for digest in digests:
        counts[digest] += 1
        keys.append(f"line:{digest}:{counts[digest]}:{file}")
    return keys


def digest_of(operation: str, arguments: Mapping[str, Any]) -> str:
    """A hash of what a line asks for: 32 hexadecimal digits; how it is spaced and ordered does not matter.

    Raises UnicodeEncodeError for half a character.
    """
    text = json.dumps([operation, arguments], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
