"""A row of the ledger, what may become of it, and how it is read from SQLite. Loads nothing heavy."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sora_mcp.core.errors import FileProblem, OverDailyCap, TooManyRunning
from sora_mcp.core.tasks import UNDER_WAY, Generation, State, Task, clean, is_plain_id

_GOING_ON: tuple[State, ...] = (*UNDER_WAY, "succeeded", "failed", "blocked")
TRANSITIONS: dict[State, frozenset[State]] = {
    "sending": frozenset({"submitted", "rejected", "unknown"}),
    "submitted": frozenset(_GOING_ON),
    "queued": frozenset(_GOING_ON),
    "running": frozenset(_GOING_ON),
    "unknown": frozenset({"submitted", "rejected"}),
    "succeeded": frozenset(),
    "failed": frozenset({"succeeded"}),
    "blocked": frozenset({"succeeded"}),
    "rejected": frozenset({"submitted"}),
}
"""Where a row may go from each state; any other move is ignored, so that a late answer never undoes a later one.

*unknown* is left by a person who looked at the gateway's own log (`settle`). A task id that the gateway gave is proof:
it beats what a person said before. So does a success, whatever was said before it.
"""

GONE = "the process that was sending it ended before the gateway's answer was recorded"

OPEN: tuple[State, ...] = ("sending", "unknown", *UNDER_WAY)
"""States in which the same request is a duplicate, however long ago it was made."""
REFUSED: tuple[State, ...] = ("rejected", "failed", "blocked")
"""States after which the same request may be made again."""

DAY_S = 86_400
HOUR_S = 3600

SLOWEST_S = 60.0
"""The longest pause, in seconds, between two looks at a task whose queries succeed."""
LONGEST_MISS_S = 600.0
"""The same where queries fail."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A paid call before it is sent. Two with the same `fingerprint` ask for the same thing; `cost` is relative.

    `other_fingerprint`: the one under which earlier releases recorded the same thing.
    """

    gateway: str
    operation: str
    body: dict[str, Any]
    fingerprint: str
    sources: list[str]
    cost: float | None
    other_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for a new row at its gateway, and caps (None: none).

    `guard_s`: seconds after its success in which the same request is a duplicate; 0 lets every one pass.

    `day` bounds the sum of relative costs over 24 hours, `running` the number of videos under way, or of which it is
    unknown, that are not older.
    """

    guard_s: float = 0
    day: float | None = None
    running: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: an intent and what became of it. Times are unix seconds; `body` is the documented body.

    Of the gateway's own words there are: `gateway_state` (from the same look as `state`), `gateway_message` and
    `failure_code` (why there is no video), `answer` (what it answered to a create, where that could not be read) and
    `other_ids` (further ids in that answer). `withheld`: how many variants moderation kept back. `merged_into`: the
    request whose task this row had recorded as well.

    The gateway was last asked about its task at `looked_at`, of late `misses` times in vain, and from then on is not to
    be asked before `not_before`.
    """

    number: int
    request_id: str
    gateway: str
    task_id: str | None
    operation: str | None
    state: State
    body: dict[str, Any]
    sources: list[str]
    cost: float | None
    progress: int | None
    enhanced_prompt: str | None
    failure_reason: str | None
    created_at: float
    updated_at: float
    writer: str | None = None
    fingerprint: str | None = None
    looked_at: float | None = None
    not_before: float | None = None
    misses: int = 0
    address: str = ""
    key_fingerprint: str = ""
    owner: str = ""
    gateway_state: str | None = None
    gateway_message: str | None = None
    failure_code: str | None = None
    answer: str | None = None
    withheld: int | None = None
    other_ids: tuple[str, ...] = ()
    merged_into: str | None = None
    generations: tuple[Generation, ...] = ()
    files: dict[int, Path] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id to show in a sentence: the task's where there is one that may stand there, else our own."""
        return self.task_id if self.task_id is not None and is_plain_id(self.task_id) else self.request_id

    def may_be_asked(self, now: float) -> bool:
        """Whether somebody who wants to know may ask the gateway at `now`. What the clock said before it went back does
        not count."""
        return self.not_before is None or not (self.looked_at or 0) <= now < self.not_before

    def is_due(self, now: float, pace: float) -> bool:
        """Whether it is time for the next look by itself: every `pace` seconds at first, ever more rarely later."""
        last = self.looked_at or self.created_at
        pause = min(max(pace, (now - self.created_at) / 10), SLOWEST_S)
        pause = min(pause * 2 ** min(self.misses, 10), LONGEST_MISS_S)
        return not last <= now < last + pause and self.may_be_asked(now)


def shown(entry: Entry, prompt_length: int = 80) -> dict[str, Any]:
    """What the world is told of a row, in a list and elsewhere; the prompt is shortened.

    Raises FileProblem for a row that nobody here has written.
    """
    with _readable(entry.request_id):
        body, made = entry.body, datetime.fromtimestamp(entry.created_at, UTC)
        prompt = body.get("prompt") or " / ".join(action["description"] for action in body.get("actions") or [])
        told = {
            "task_id": entry.task_id,
            "request_id": entry.request_id,
            "state": entry.state,
            "operation": entry.operation,
            "prompt": clean(prompt, prompt_length) or None,
            "width": body.get("width"),
            "height": body.get("height"),
            "n_frames": body.get("n_frames"),
            "cost": entry.cost,
            "sources": entry.sources,
            "created_at": made.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        if any(isinstance(told[name], str) for name in ("width", "height", "n_frames")):
            raise ValueError
    return told


@contextmanager
def _readable(request_id: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
        message = f"The ledger's row {request_id} is damaged: somebody else has changed it."
        raise FileProblem(message, "Tell the user: it lies in SORA_HOME.") from None


def gateway_name(salt: bytes, base_url: str, api_key: str, owner: str) -> str:
    """The name under which rows stand: a gateway's address, a salted fingerprint of the key, and whose they are.

    The names of this machine are one: who pays at `localhost` must not pay again at 127.0.0.1.
    """
    fingerprint = hmac.new(salt, api_key.encode(), hashlib.sha256).hexdigest()[:16]
    address = re.sub(r"//(localhost|0\.0\.0\.0|\[::1?\])(?=[:/]|$)", "//127.0.0.1", base_url)
    return f"{address}#{fingerprint}" + (f"@{owner}" if owner else "")


def account(name: str) -> dict[str, str]:
    """The parts of a gateway's name, as columns."""
    address, _, rest = name.partition("#")
    return {"address": address, "key_fingerprint": rest[:16], "owner": rest[17:]}


def without_owner(name: str) -> str:
    """The part of a gateway's name that all owners share."""
    return name[: name.index("#") + 17]


def salt_of(db: sqlite3.Connection) -> bytes | None:
    """The salt of a ledger, None where it has none yet."""
    row = db.execute("SELECT value FROM salt").fetchone()
    return None if row is None else bytes(row[0])


def sending(db: sqlite3.Connection) -> list[tuple[str, str | None, float]]:
    """The rows that are being sent, as request id, writer, and the unix second in which they were begun."""
    sql = "SELECT request_id, writer, updated_at FROM videos WHERE state = 'sending'"
    return [(row[0], row[1], row[2]) for row in db.execute(sql)]


def newest_change(db: sqlite3.Connection) -> int:
    """The number of the newest change of a state; 0 where nothing was recorded yet. It never falls."""
    return int(db.execute("SELECT coalesce(max(number), 0) FROM history").fetchone()[0])


def of_request(db: sqlite3.Connection, request_id: str) -> Entry:
    """The row of a `req_…` id that is there, or the one it was merged into."""
    entry = _rows(db, "request_id = ?", [request_id], 1)[0]
    return of_request(db, entry.merged_into) if entry.merged_into else entry


def of_task(db: sqlite3.Connection, gateway: str, task_id: str) -> Entry | None:
    """The row of a `task_…` id at this gateway, whatever key it was made with."""
    entries = select(db, "gateway = ? AND task_id = ?", [gateway, task_id])
    entries = entries or select(db, f"task_id = ? AND {_SIBLING}", [task_id, *_sibling(gateway)])
    return entries[0] if entries else None


def find(db: sqlite3.Connection, gateway: str, video_id: str) -> Entry | None:
    """The row of a `task_…` or `req_…` id at this gateway, whatever key it was made with."""
    if not video_id.startswith("req_"):
        return of_task(db, gateway, video_id)
    known = db.execute("SELECT 1 FROM videos WHERE request_id = ?", [video_id]).fetchone()
    entry = of_request(db, video_id) if known else None
    if entry is not None and [entry.address, entry.owner] == _sibling(gateway):
        return entry
    return of_task(db, gateway, video_id)  # some gateways name their tasks so, too


_SIBLING = "+address = ? AND +owner = ?"
"""Rows of the same gateway and owner, whatever key."""


def _sibling(gateway: str) -> list[str]:
    parts = account(gateway)
    return [parts["address"], parts["owner"]]


def page(
    db: sqlite3.Connection, gateway: str, *, limit: int, before: int | None = None, states: Sequence[State] = ()
) -> list[Entry]:
    """Rows, newest first: at most `limit`, with a `number` below `before`, in one of `states` if any are given."""
    older = f" AND number < {before:d}" if before is not None else ""
    if not states:
        return select(db, f"gateway = ?{older}", [gateway], limit)
    # State by state: an index then gives each in order, however many rows stand in other states.
    found = [select(db, f"gateway = ? AND state = ?{older}", [gateway, state], limit) for state in states]
    return sorted((entry for each in found for entry in each), key=lambda e: -e.number)[:limit]


def same(db: sqlite3.Connection, intent: Intent, since: float) -> Entry | None:
    """The newest row that asks for the same thing and is open still, or succeeded after `since`."""
    where = f"{_SAME} AND (+state IN ({places(OPEN)}) OR (+state = 'succeeded' AND ({_SINCE} OR +created_at > ?)))"
    entries = select(db, where, [*_same_values(intent), *OPEN, since, since])
    return entries[0] if entries else None


def refused_before(db: sqlite3.Connection, intent: Intent, since: float) -> Entry | None:
    """The newest row of after `since` that asks for the same thing and came to nothing."""
    where = f"{_SAME} AND +state IN ({places(REFUSED)}) AND +created_at > ?"
    entries = select(db, where, [*_same_values(intent), *REFUSED, since])
    return entries[0] if entries else None


_SAME = "fingerprint IN (?, ?) AND +address = ? AND +owner = ?"


def _same_values(intent: Intent) -> list[str]:
    other = intent.other_fingerprint or intent.fingerprint
    return [intent.fingerprint, other, *_sibling(intent.gateway)]


def spent(db: sqlite3.Connection, gateway: str, since: float) -> tuple[float, float]:
    """The relative cost of what was submitted since then and not refused; and of what may have been."""
    sql = (
        "SELECT coalesce(sum(iif(state = 'unknown', 0, cost)), 0), coalesce(sum(iif(state = 'unknown', cost, 0)), 0)"
        " FROM videos WHERE gateway = ? AND created_at > ? AND state != 'rejected'"
    )
    row = db.execute(sql, [gateway, since]).fetchone()
    return float(row[0]), float(row[1])


def open_rows(db: sqlite3.Connection, gateway: str, since: float) -> list[Entry]:
    """Videos under way, or of which it is unknown, newest first; what is being sent counts whenever it was begun."""
    where = f"gateway = ? AND (state = 'sending' OR (state IN ({places(OPEN)}) AND +created_at > ?))"
    return select(db, where, [gateway, *OPEN, since], MOST_OPEN)


MOST_OPEN = 1000
"""Open rows that are counted."""


def check_caps(db: sqlite3.Connection, intent: Intent, rules: Rules, since: float) -> None:
    """Raise OverCap where one more row would be beyond a cap; what is older than `since` does not count."""
    if rules.running is not None:
        open_now = open_rows(db, intent.gateway, since)
        if len(open_now) >= rules.running:
            raise TooManyRunning(rules.running, [(entry.id, entry.state) for entry in open_now])
    if rules.day is not None:
        cost, uncertain = spent(db, intent.gateway, since)
        if intent.cost is None or cost + uncertain + intent.cost > rules.day:
            unknown = select(db, "gateway = ? AND state = 'unknown' AND +created_at > ?", [intent.gateway, since], 3)
            raise OverDailyCap(rules.day, cost, uncertain, intent.cost, [entry.id for entry in unknown])


_SUCCEEDED = "gateway = ? AND created_at > ? AND +state = 'succeeded'"
_ADDRESSES = "EXISTS (SELECT 1 FROM generations AS g WHERE g.request_id = videos.request_id AND g.url IS NOT NULL"
_SINCE = (
    "EXISTS (SELECT 1 FROM history AS h WHERE h.request_id = videos.request_id AND h.state = 'succeeded' AND at > ?)"
)


def unsaved(db: sqlite3.Connection, gateway: str, now: float, limit: int) -> list[Entry]:
    """Rows of the last 24 hours that succeeded and have a variant with an address and without a file."""
    return select(db, f"{_SUCCEEDED} AND {_ADDRESSES} AND g.file IS NULL)", [gateway, now - DAY_S], limit)


def without_address(db: sqlite3.Connection, gateway: str, now: float, limit: int) -> list[Entry]:
    """Rows that succeeded within the last hour, after a day at most, and have no variant with an address."""
    values = [gateway, now - DAY_S - HOUR_S, now - HOUR_S]
    return select(db, f"{_SUCCEEDED} AND NOT {_ADDRESSES}) AND {_SINCE}", values, limit)


# A `+` before a column keeps SQLite from walking all rows of a gateway where a narrower index is there.


def select(db: sqlite3.Connection, where: str, values: Sequence[object], limit: int = 1) -> list[Entry]:
    """Rows, newest first, but for those that were merged into another."""
    return _rows(db, f"({where}) AND merged_into IS NULL", values, limit)


def _rows(db: sqlite3.Connection, where: str, values: Sequence[object], limit: int) -> list[Entry]:
    sql = f"SELECT {_COLUMNS} FROM videos WHERE {where} ORDER BY number DESC LIMIT {limit:d}"  # noqa: S608 - ours
    return [_entry(db, row) for row in db.execute(sql, values).fetchall()]


def places(values: Sequence[object]) -> str:
    """A `?` for each value."""
    return ", ".join("?" * len(values))


def _entry(db: sqlite3.Connection, row: sqlite3.Row) -> Entry:
    values = dict(row)
    other_ids = values.pop("other_ids")
    variants = db.execute(
        f"SELECT {', '.join(_GENERATION)}, file FROM generations"  # noqa: S608 - our own names
        " WHERE request_id = ? ORDER BY variant",
        (row["request_id"],),
    ).fetchall()
    with _readable(row["request_id"]):
        if values["state"] not in TRANSITIONS or any(isinstance(values[name], str | bytes) for name in _NUMBERS):
            raise ValueError
        return Entry(
            **(values | {name: json.loads(values[name]) for name in ("body", "sources")}),
            other_ids=tuple(json.loads(other_ids or "[]")),
            generations=tuple(Generation(**{name: v[name] for name in _GENERATION}) for v in variants),
            files={v["variant"]: Path(v["file"]) for v in variants if v["file"]},
        )


_NUMBERS = ("cost", "progress", "created_at", "updated_at", "looked_at", "not_before", "misses", "withheld")
"""Columns in which SQLite would keep a text, too."""

_GENERATION = tuple(each.name for each in fields(Generation))
_COLUMNS = ", ".join(each.name for each in fields(Entry) if each.name not in {"generations", "files"})
"""Columns by their names: a newer release may have added others."""


def upsert_generations(db: sqlite3.Connection, request_id: str, task: Task) -> None:
    """Bring the variants of a row up to date; what a reply leaves out stays."""
    names = ", ".join(_GENERATION)
    updates = ", ".join(f"{name} = coalesce(excluded.{name}, {name})" for name in _GENERATION if name != "variant")
    for generation in task.generations:
        db.execute(
            f"INSERT INTO generations (request_id, {names}) VALUES (?, {places(_GENERATION)})"  # noqa: S608 - our own names
            f" ON CONFLICT (request_id, variant) DO UPDATE SET {updates}",
            (request_id, *asdict(generation).values()),
        )
