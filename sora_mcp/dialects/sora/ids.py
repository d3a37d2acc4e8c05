"""Ids of tasks: what counts as one in an answer, and where the answer to a create holds it.

The page puts it in `data` as text. Its siblings and forks put it elsewhere, as a number, with blanks around it, or
several in a list; a user who paid for it must not lose it for that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sora_mcp.core.ids import MAX_ID_LENGTH, is_id
from sora_mcp.dialects.replies import parse_nested_json
from sora_mcp.dialects.sora.fields import BLANK_VALUES, Fields, fold, is_empty, state_of

MAX_IDS = 16
"""Ids that are read from one answer."""

_MAX_DEPTH = 5
"""Levels of `data`, `output` and `result` that are searched for an id."""

_TASK_ID_FIELDS = ("task_id", "job_id", "task_ids", "job_ids")
_PLAIN_ID_FIELDS = ("id", "ids")
_CALL_ID_FIELDS = ("request_id",)
_ENVELOPE_FIELDS = ("data", "output", "result")

_BARE_ID = re.compile(r"[0-9_]|.{16}")
"""Distinguishes a bare id from a word such as `ok`."""


def as_id(value: object) -> str | None:
    """Return the id in a field of the gateway's: a text with nothing but blanks around it, or an integer above 0."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**MAX_ID_LENGTH:
        return str(value)
    if not isinstance(value, str) or len(value) > 4 * MAX_ID_LENGTH:
        return None
    text = re.sub(r"^[\s\0\u200b-\u200f\ufeff]+|[\s\0\u200b-\u200f\ufeff]+$", "", value)
    is_blank = fold(text) in BLANK_VALUES or re.fullmatch(r"-?0+|-[0-9]+", text)
    return text if is_id(text) and not is_blank else None


def ids_in(answer: Any, *, task_ids_only: bool = False) -> list[str]:
    """Return the ids that an answer to a create names, best first: the field's name counts before its place.

    `data` as text or number is the page's own form; `task_id` and `job_id` count in `data`, `output` and `result` too,
    then `id` does. A `request_id` names the HTTP call and does not count. `task_ids_only` leaves out the doubtful ones:
    bare texts and `id`, which may belong to an error.
    """
    bare = [] if task_ids_only else [*_ids_from(Fields(answer).get("data"), _as_bare_id)]
    task_ids = _ids_under(answer, _TASK_ID_FIELDS)
    plain = [] if bare or task_ids or task_ids_only else _ids_under(answer, _PLAIN_ID_FIELDS)
    return list(dict.fromkeys([*bare, *task_ids, *plain]))[:MAX_IDS]


def lone_request_ids(answer: Any) -> list[str]:
    """Return the `request_id` of an answer that holds nothing else that could be its id."""
    fields = Fields(answer)
    for name in _ENVELOPE_FIELDS:
        value = parse_nested_json(fields.get(name))
        if not is_empty(value) and not _ids_under(value, _CALL_ID_FIELDS):
            return []
    return _ids_under(answer, _CALL_ID_FIELDS)[:MAX_IDS]


def _ids_under(answer: Any, names: Iterable[str]) -> list[str]:
    """Return the ids under these names; the first name that holds any counts, in every object of a list."""
    objects = list(_objects(answer))
    for name in names:
        ids = [each for fields in objects for each in _ids_from(fields.get(name), as_id)]
        if ids:
            return ids
    return []


def _objects(value: Any, depth: int = _MAX_DEPTH) -> Iterator[Fields]:
    """Yield an answer's objects, outer ones first: itself, those in `data`, `output` and `result`, in lists too."""
    value = parse_nested_json(value)
    if depth == 0:
        return
    if isinstance(value, list):
        for each in value[:MAX_IDS]:
            yield from _objects(each, depth - 1)
    elif isinstance(value, dict):
        fields = Fields(value)
        yield fields
        for name in _ENVELOPE_FIELDS:
            yield from _objects(fields.get(name), depth - 1)


def _ids_from(value: Any, read: Callable[[object], str | None], depth: int = 3) -> Iterator[str]:
    """Yield the ids in a value: its own, or those of the values in a list."""
    value = parse_nested_json(value)
    if isinstance(value, list) and depth:
        for each in value[:MAX_IDS]:
            yield from _ids_from(each, read, depth - 1)
    elif (ids := read(value)) is not None:
        yield ids


def _as_bare_id(value: object) -> str | None:
    """Return the id in a field that may just as well hold a word, a sentence or an address."""
    text = as_id(value)
    if text is None or isinstance(value, int):
        return text
    is_word = state_of(text) is not None or re.match(r"https?://", text, re.IGNORECASE)
    return text if _BARE_ID.search(text) and not is_word else None
