"""Fields and words for states in replies, as new-api, its siblings and their users write them.

Words and the names of fields are compared without regard to case, spaces, `-` and `_`: `resultUrls` is `result_urls`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sora_mcp.core.tasks import State

_STATE_WORDS: dict[State, str] = {
    "queued": "not_start notstarted submitted queued queueing pending waiting created starting preparing unknown 0",
    "running": "in_progress running processing generating streaming 1",
    "failed": "failure failed fail error cancelled canceled expired timeout timed_out rejected deleted 2",
    "succeeded": "success succeeded succeed successful completed complete finished done 3",
    "blocked": "moderated blocked nsfw content_filtered",
}
"""Words for each state. One sibling numbers its states: not started, in progress, failure, success."""

STATE_FIELDS = ("status", "state", "task_status")
"""Fields that hold the state of a task; if one is empty, the next one counts."""

BLANK_VALUES = frozenset({"", "ok", "true", "false", "null", "none", "nil", "undefined", "nan"})
"""Texts in place of a value that mean nothing (folded)."""


@lru_cache(maxsize=512)
def fold(text: str) -> str:
    """Return a word in the form in which it is compared. Caching longer texts is useless, but harmless."""
    return re.sub(r"[\s_-]+", "", text).casefold()


STATES: dict[str, State] = {fold(word): state for state, words in _STATE_WORDS.items() for word in words.split()}


def state_of(word: object) -> State | None:
    """Return the state that a gateway's word or number means; None for an unknown one."""
    if isinstance(word, int) and not isinstance(word, bool):
        return STATES.get(str(word)) if 0 <= word < 10 else None
    if not isinstance(word, str) or len(word) > 40 or word.strip().startswith("-"):  # -2 is not 2
        return None
    return STATES.get(fold(word))


class Fields:
    """The fields of an object by their folded names; empty for anything that is not an object.

    Of two fields with the same name the first one that is not empty counts.
    """

    __slots__ = ("_values",)

    def __init__(self, value: object) -> None:
        self._values: dict[str, Any] = {}
        for name, each in value.items() if isinstance(value, dict) else ():
            if is_empty(self._values.get(key := fold(str(name)[:100]))):
                self._values[key] = each

    def get(self, name: str) -> Any:
        """Return the value of a field, None if it is missing."""
        return self._values.get(fold(name))

    def first(self, names: Iterable[str]) -> Any:
        """Return the first of these fields that is not empty, None if all are."""
        return next((value for name in names if not is_empty(value := self.get(name))), None)

    def __contains__(self, name: str) -> bool:
        return fold(name) in self._values

    def __bool__(self) -> bool:
        return bool(self._values)


def is_empty(value: object) -> bool:
    """Whether a field is empty: null, or an empty text, list or object."""
    return value is None or (isinstance(value, str | list | dict) and not value)
