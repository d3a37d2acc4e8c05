"""Ids inside texts that are none: an address, a link, an id in quotation marks, the path of a saved video.

What is found is only ever suggested: the caller decides what to pay for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.ids import is_id
from sora_mcp.core.tasks import is_plain_id
from sora_mcp.studio.ids import without_variant

_MAX_TEXT = 4000
"""Characters that are searched."""
_MAX_FOUND = 24
"""Possible ids that are returned."""
_MAX_NAMED = 3
_MIN_LENGTH = 8
"""Characters of an id inside what could be an id itself: `18/17` can be one, though `17` is another."""
_MARKS = re.compile(r"^[^\w~-]+|[^\w~-]+$")
"""What surrounds an id: quotation marks, backticks, asterisks, brackets, the dot that ends a sentence."""
_WORD = re.compile(r"([\w.~-]+)(?=(?:[#/]([1-9][0-9]{0,2})(?![\w-]))?)")
"""A word, and the number of a variant that follows it."""
_FILE_ENDING = re.compile(r"(?:\.v([1-9][0-9]{0,2}))?\.[a-z][a-z0-9]{2,3}$")
"""The end of a saved video's name, after its id."""


def ids_within(text: str) -> list[str]:
    """Return what may be the id that is meant by a text that is not recorded, as `task_…` or `task_…#2`."""
    text = text.strip()[:_MAX_TEXT]
    is_refused = "://" in text or not is_id(without_variant(text))
    found: dict[str, str | None] = {}
    for candidate, variant in _candidates(text):
        if candidate in {text, without_variant(text)} or not is_plain_id(candidate):
            continue
        if is_refused or len(candidate) >= _MIN_LENGTH or candidate == without_variant(_MARKS.sub("", text)):
            found[candidate] = found.get(candidate) or variant
    ids = (f"{each}#{variant}" if variant not in {None, "1"} else each for each, variant in found.items())
    return list(ids)[:_MAX_FOUND]


def _candidates(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield possible ids and the variants that go with them."""
    inner = _MARKS.sub("", text)
    name, _, variant = inner.partition("#")
    yield inner, None
    if re.fullmatch(r"[1-9][0-9]{0,2}", variant):
        yield name, variant
    for spelling in dict.fromkeys((text, unquote(text))):
        for match in _WORD.finditer(spelling):
            word = match[1].strip(".")
            yield word, match[2]
            yield word.strip("_"), match[2]
            if ending := _FILE_ENDING.search(word):
                yield word[: ending.start()], ending[1]
    if "://" in text:
        yield from ((unquote(part), None) for part in re.split(r"[/?#&=]", text))


def not_an_id_error(text: str, argument: str, allowed: str, named: list[str]) -> InvalidInput:
    """Return the error for a text that is not an id; `named`: recorded ids that are in it."""
    reason = "is an address, not an id" if "://" in text and not named else "is not an id"
    meant = f" (did you mean {' or '.join(named[:_MAX_NAMED])}?)" if named else ""
    return InvalidInput([Problem(argument, reason + meant, allowed)])
