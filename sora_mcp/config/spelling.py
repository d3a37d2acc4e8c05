"""Environment variables that look like settings but are not: a user would rely on a misspelt cap.

Names are compared without case, blanks and separators, because those are mistaken most often.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

PREFIX = "SORA_"


def variable_of(field: str) -> str:
    """Return the environment variable of a setting: only this package knows how they are named."""
    return f"{PREFIX}{field.upper()}"


GUARDS = (
    "SORA_MAX_COST_PER_CALL",
    "SORA_MAX_COST_PER_DAY",
    "SORA_MAX_COST_PER_OWNER",
    "SORA_MAX_CALLS_PER_DAY",
    "SORA_MAX_RUNNING",
    "SORA_MAX_VARIANTS",
    "SORA_ASK_ABOVE_COST",
    "SORA_DUPLICATE_WINDOW",
    "SORA_OWNER",
    "SORA_LEDGER_URL",
)
"""Settings that keep users from paying more than they want. SORA_OWNER is one because it decides whose videos the caps
count, and SORA_LEDGER_URL because it decides where they are counted."""

_GUARD_TERMS = re.compile(
    r"MAX|COST|BUDGET|LIMIT|SPEND|SPENT|QUOTA|DAILY|DUPLICAT|DEDUP|IDEMPOTEN|CONCURREN|PARALLEL|DRYRUN"
    r"|LEDGER|DATABASE|POSTGRES"
)
"""Terms that people may use in the name of a cap or another guard against costs."""
_GUARD_TOKENS = frozenset(
    {"CAP", "CAPS", "ASK", "CONFIRM", "APPROVE", "DUP", "DRY", "SANDBOX", "GUARD", "WINDOW", "OWNER"}
    | {"PAY", "PRICE", "CREDITS", "MONEY", "USD"}
)
"""The same, but only as a whole token of the name: CAP is also part of CAPTION."""
_OTHER_THRESHOLD = 0.75
"""Similarity from which a name counts as a setting that is no guard, unless a guard's name is more similar."""
_GUARD_THRESHOLD = 0.7
"""Similarity from which a name counts as a guard's."""
_SUGGESTION_THRESHOLD = 0.6
"""Similarity from which a setting is suggested."""
_MAX_NAME_LENGTH = 60
"""Longer names are cut when shown."""


class UnknownVariable(Struct, frozen=True):
    """A variable that is not a setting. `suggestion`: the most similar setting, if any is similar enough."""

    name: str
    suggestion: str | None
    may_be_guard: bool

    def __str__(self) -> str:
        """Return a sentence with the name and the suggestion."""
        if self.suggestion:
            return f"{self.name} is not a setting (did you mean {self.suggestion}?)."
        allowed = f"; guards against costs are {', '.join(GUARDS)}" if self.may_be_guard else ""
        return f"{self.name} is not a setting{allowed}."


def unknown_variables(names: Iterable[str], settings: Iterable[str]) -> Iterator[UnknownVariable]:
    """Yield those of `names` that have our prefix but are not in `settings`."""
    known = list(settings)
    for name in names:
        if name not in known and has_our_prefix(name):
            yield _classify(name, known)


def has_our_prefix(name: str) -> bool:
    """Whether a name has our prefix, in any case and with any separator (SORARE_KEY has not)."""
    return re.match(r"\s*SORA(_|[^A-Z0-9]|MAX)", name.upper()) is not None


def _classify(name: str, known: list[str]) -> UnknownVariable:
    similarities = {each: _similarity(_normalize(name), _normalize(each)) for each in known}
    guard = max((each for each in known if each in GUARDS), key=lambda each: similarities[each])
    other = max((each for each in known if each not in GUARDS), key=lambda each: similarities[each])
    is_other = similarities[other] >= _OTHER_THRESHOLD and similarities[other] > similarities[guard]
    may_be_guard = not is_other and (similarities[guard] >= _GUARD_THRESHOLD or _mentions_guard(name))
    suggestion = guard if may_be_guard or similarities[guard] >= similarities[other] else other
    is_similar = similarities[suggestion] >= _SUGGESTION_THRESHOLD
    return UnknownVariable(_printable(name), suggestion if is_similar else None, may_be_guard)


def _mentions_guard(name: str) -> bool:
    tokens = re.split(r"[^A-Z]+", name.upper())
    return _GUARD_TERMS.search(_normalize(name)) is not None or not _GUARD_TOKENS.isdisjoint(tokens)


def _normalize(name: str) -> str:
    """Return the name without prefix and separators; people also use the program's name as the prefix."""
    return re.sub(r"^SORA(MCP)?", "", re.sub(r"[^A-Z0-9]", "", name.upper()))


def _similarity(a: str, b: str) -> float:
    from difflib import SequenceMatcher  # noqa: PLC0415 - only for unknown names

    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def _printable(name: str) -> str:
    """Quote a name that contains invisible or other unusual characters, and cut a long one."""
    plain = name if re.fullmatch(r"[\w.-]+", name, re.ASCII) else ascii(name).replace("'", '"')
    return plain if len(plain) <= _MAX_NAME_LENGTH else f"{plain[:_MAX_NAME_LENGTH]}…"
