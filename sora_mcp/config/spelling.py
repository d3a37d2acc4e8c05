"""Environment variables that look like ours and are no settings: a misspelt cap is one that the user believes in.

Names are compared without case, blanks and separators, as people mistake those first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

PREFIX = "SORA_"


def variable_of(field: str) -> str:
    """The environment variable of a setting: this room alone knows how these are called."""
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
"""What keeps a user from paying more than they want. SORA_OWNER too: it says whose videos the caps count; and
SORA_LEDGER_URL, which says where they are counted."""

_GUARD_WORDS = re.compile(
    r"MAX|COST|BUDGET|LIMIT|SPEND|SPENT|QUOTA|DAILY|DUPLICAT|DEDUP|IDEMPOTEN|CONCURREN|PARALLEL|DRYRUN"
    r"|LEDGER|DATABASE|POSTGRES"
)
"""What the name of a cap, or of a guard against paying, may hold in anybody's words."""
_GUARD_PARTS = frozenset(
    {"CAP", "CAPS", "ASK", "CONFIRM", "APPROVE", "DUP", "DRY", "SANDBOX", "GUARD", "WINDOW", "OWNER"}
    | {"PAY", "PRICE", "CREDITS", "MONEY", "USD"}
)
"""The same, where it has to be a whole part of the name: CAP also stands in CAPTION."""
_ANOTHER_SETTING = 0.75
"""Likeness from which a name is taken for a setting that guards nothing, unless a guard's is more like it."""
_A_GUARD = 0.7
"""Likeness from which a name is taken for a guard's."""
_MEANT = 0.6
"""Likeness from which it is asked whether a setting was meant."""
_LONGEST = 60
"""Characters of a name that are shown."""


class UnknownVariable(Struct, frozen=True):
    """A variable that is no setting. `meant` is the setting it looks like most, if any; `guards`: it may be a guard."""

    name: str
    meant: str | None
    guards: bool

    def __str__(self) -> str:
        """A sentence that names it, and what was meant perhaps."""
        if self.meant:
            return f"{self.name} is not a setting (did you mean {self.meant}?)."
        allowed = f"; guards against costs are {', '.join(GUARDS)}" if self.guards else ""
        return f"{self.name} is not a setting{allowed}."


def unknown_variables(names: Iterable[str], settings: Iterable[str]) -> Iterator[UnknownVariable]:
    """Those of `names` that begin as ours do and are none of `settings`."""
    known = list(settings)
    for name in names:
        if name not in known and begins_as_ours(name):
            yield _judged(name, known)


def begins_as_ours(name: str) -> bool:
    """Whether a name has our prefix, in whatever case and with whatever separator (SORARE_KEY has not)."""
    return re.match(r"\s*SORA(_|[^A-Z0-9]|MAX)", name.upper()) is not None


def _judged(name: str, known: list[str]) -> UnknownVariable:
    likeness = {each: _likeness(_bare(name), _bare(each)) for each in known}
    guard = max((each for each in known if each in GUARDS), key=lambda each: likeness[each])
    other = max((each for each in known if each not in GUARDS), key=lambda each: likeness[each])
    is_other = likeness[other] >= _ANOTHER_SETTING and likeness[other] > likeness[guard]
    guards = not is_other and (likeness[guard] >= _A_GUARD or _speaks_of_a_guard(name))
    meant = guard if guards or likeness[guard] >= likeness[other] else other
    return UnknownVariable(_shown(name), meant if likeness[meant] >= _MEANT else None, guards)


def _speaks_of_a_guard(name: str) -> bool:
    parts = re.split(r"[^A-Z]+", name.upper())
    return _GUARD_WORDS.search(_bare(name)) is not None or not _GUARD_PARTS.isdisjoint(parts)


def _bare(name: str) -> str:
    """The name without prefix and separators; people also write the program's name as its prefix."""
    return re.sub(r"^SORA(MCP)?", "", re.sub(r"[^A-Z0-9]", "", name.upper()))


def _likeness(one: str, other: str) -> float:
    from difflib import SequenceMatcher  # noqa: PLC0415 - only where a name is not known

    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _shown(name: str) -> str:
    """A name that holds what nobody sees stands in quotes."""
    plain = name if re.fullmatch(r"[\w.-]+", name, re.ASCII) else ascii(name).replace("'", '"')
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"
