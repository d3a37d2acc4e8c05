"""Ids of tasks: what counts as one in an answer, and where the answer to a create holds it.

The page puts it in `data` as text. Its siblings and forks put it elsewhere, as a number, with blanks around it, or
several in a list; whoever paid for it must not lose it for that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sora_mcp.core.ids import MAX_ID, is_id
from sora_mcp.dialects.replies import from_text
from sora_mcp.dialects.sora.words import NO_WORDS, Fields, fold, is_empty, state_of

MOST_IDS = 16
"""Ids that are read from one answer."""

_DEPTH = 5
"""How deep an id may stand inside `data`, `output` and `result`."""

_TASK_NAMES = ("task_id", "job_id", "task_ids", "job_ids")
_OWN_NAMES = ("id", "ids")
_CALL_NAMES = ("request_id",)
_INSIDE = ("data", "output", "result")

_BARE = re.compile(r"[0-9_]|.{16}")
"""What makes a bare text an id rather than a word such as `ok`."""


def as_id(value: object) -> str | None:
    """The id that a field of the gateway's holds: a text with nothing but blanks around it, or an integer above 0."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**MAX_ID:
        return str(value)
    if not isinstance(value, str) or len(value) > 4 * MAX_ID:
        return None
    text = re.sub(r"^[\s\0\u200b-\u200f\ufeff]+|[\s\0\u200b-\u200f\ufeff]+$", "", value)
    says_nothing = fold(text) in NO_WORDS or re.fullmatch(r"-?0+|-[0-9]+", text)
    return text if is_id(text) and not says_nothing else None


def ids_in(answer: Any, *, of_task_only: bool = False) -> list[str]:
    """The ids that an answer to a create names, best first: by name before place.

    `data` as text or number is the page's own form; `task_id` and `job_id` count in `data`, `output` and `result` too,
    then `id` does. A `request_id` names the HTTP call and is none of them. `of_task_only` leaves out the doubtful
    ones: bare texts and `id`, which may be those of an error.
    """
    bare = [] if of_task_only else [*_taken(Fields(answer).get("data"), _as_bare_id)]
    named = _named(answer, _TASK_NAMES)
    own = [] if bare or named or of_task_only else _named(answer, _OWN_NAMES)
    return list(dict.fromkeys([*bare, *named, *own]))[:MOST_IDS]


def lone_request_ids(answer: Any) -> list[str]:
    """The `request_id` of an answer that holds nothing else which could be its id."""
    fields = Fields(answer)
    for name in _INSIDE:
        value = from_text(fields.get(name))
        if not is_empty(value) and not _named(value, _CALL_NAMES):
            return []
    return _named(answer, _CALL_NAMES)[:MOST_IDS]


def _named(answer: Any, names: Iterable[str]) -> list[str]:
    """The ids under these names; the first name that holds any counts, in every object of a list."""
    objects = list(_objects(answer))
    for name in names:
        ids = [each for fields in objects for each in _taken(fields.get(name), as_id)]
        if ids:
            return ids
    return []


def _objects(value: Any, depth: int = _DEPTH) -> Iterator[Fields]:
    """An answer's objects, outer ones first: its own, those in `data`, `output` and `result`, and in lists of these."""
    value = from_text(value)
    if depth == 0:
        return
    if isinstance(value, list):
        for each in value[:MOST_IDS]:
            yield from _objects(each, depth - 1)
    elif isinstance(value, dict):
        fields = Fields(value)
        yield fields
        for name in _INSIDE:
            yield from _objects(fields.get(name), depth - 1)


def _taken(value: Any, read: Callable[[object], str | None], depth: int = 3) -> Iterator[str]:
    """The ids in a value: itself, or what a list of such holds."""
    value = from_text(value)
    if isinstance(value, list) and depth:
        for each in value[:MOST_IDS]:
            yield from _taken(each, read, depth - 1)
    elif (ids := read(value)) is not None:
        yield ids


def _as_bare_id(value: object) -> str | None:
    """The id in a field without a name of its own, which may as well hold a word, a sentence or an address."""
    text = as_id(value)
    if text is None or isinstance(value, int):
        return text
    is_word = state_of(text) is not None or re.match(r"https?://", text, re.IGNORECASE)
    return text if _BARE.search(text) and not is_word else None
