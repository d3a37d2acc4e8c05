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

from sora_mcp.errors import FileProblem, OverCap
from sora_mcp.tasks import UNDER_WAY, Generation, State, Task, clean

_GOING_ON: tuple[State, ...] = (*UNDER_WAY, "succeeded", "failed", "blocked")
TRANSITIONS: dict[State, frozenset[State]] = {
    "sending": frozenset({"submitted", "rejected", "unknown"}),
    "submitted": frozenset(_GOING_ON),
    "queued": frozenset(_GOING_ON),
    "running": frozenset(_GOING_ON),
    "unknown": frozenset({"submitted", "rejected"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "blocked": frozenset(),
    "rejected": frozenset({"submitted"}),
}
"""Where a row may go from each state; any other move is ignored, so that a late answer never undoes a later one.

*unknown* is left by a person who looked at the gateway's own log (`settle`). A task id that the gateway gave is proof:
it beats what a person said before.
"""

GONE = "the process that was sending it ended before the gateway's answer was recorded"

COUNTS_AS_SENT: tuple[State, ...] = ("sending", "unknown", *UNDER_WAY, "succeeded")
"""States in which the same request is a duplicate; one that failed or was refused may be tried again."""

DAY_S = 86_400
HOUR_S = 3600

SLOWEST_S = 60.0
"""The longest pause, in seconds, between two looks at a task whose queries succeed."""
LONGEST_MISS_S = 600.0
"""The same where queries fail."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A paid call before it is sent. Two with the same `fingerprint` ask for the same thing; `cost` is relative."""

    gateway: str
    operation: str
    body: dict[str, Any]
    fingerprint: str
    sources: list[str]
    cost: float | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for a new row at its gateway: no duplicates within `guard_s` seconds, and caps (None: none).

    `day` bounds the sum of relative costs over 24 hours, `running` the number of videos under way, or of which it is
    unknown, that are not older.
    """

    guard_s: float = 0
    day: float | None = None
    running: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: an intent and what became of it. Times are unix seconds; `body` is the documented body.

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
    generations: tuple[Generation, ...] = ()
    files: dict[int, Path] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id to show: the task's where there is one, else our own."""
        return self.task_id or self.request_id

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


def of_request(db: sqlite3.Connection, request_id: str) -> Entry:
    """The row of a `req_…` id that is there."""
    return select(db, "request_id = ?", [request_id])[0]


def of_task(db: sqlite3.Connection, gateway: str, task_id: str) -> Entry | None:
    """The row of a `task_…` id at this gateway."""
    found = select(db, "gateway = ? AND task_id = ?", [gateway, task_id])
    return found[0] if found else None


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
    """The newest row that asks for the same thing and counts: made after `since`, or still open then."""
    where = f"gateway = ? AND fingerprint = ? AND +state IN ({places(COUNTS_AS_SENT)})"
    where += " AND (+created_at > ? OR state = 'sending' OR (state = 'unknown' AND updated_at > ?))"
    found = select(db, where, [intent.gateway, intent.fingerprint, *COUNTS_AS_SENT, since, since])
    return found[0] if found else None


def spent(db: sqlite3.Connection, gateway: str, since: float) -> float:
    """The relative cost of what was submitted since then: of everything that was not refused."""
    sql = "SELECT coalesce(sum(cost), 0) FROM videos WHERE gateway = ? AND created_at > ? AND state != 'rejected'"
    return float(db.execute(sql, [gateway, since]).fetchone()[0])


def open_count(db: sqlite3.Connection, gateway: str, since: float) -> int:
    """How many videos are under way, or may be; what is being sent counts whenever it was begun."""
    open_states = (*UNDER_WAY, "unknown")
    sql = (
        "SELECT count(*) FROM videos WHERE gateway = ?"  # noqa: S608 - our own states
        f" AND (state = 'sending' OR (state IN ({places(open_states)}) AND +created_at > ?))"
    )
    return int(db.execute(sql, [gateway, *open_states, since]).fetchone()[0])


def check_caps(db: sqlite3.Connection, intent: Intent, rules: Rules, since: float) -> None:
    """Raise OverCap where one more row would be beyond a cap; what is older than `since` does not count."""
    if rules.running is not None:
        count = open_count(db, intent.gateway, since)
        if count >= rules.running:
            raise OverCap("SORA_MAX_RUNNING", rules.running, f"{count} videos are under way, or may be")
    if rules.day is not None:
        cost = spent(db, intent.gateway, since)
        if intent.cost is None or cost + intent.cost > rules.day:
            wanted = "an unknown cost" if intent.cost is None else f"{intent.cost:g}"
            reached = f"{cost:g} was spent in the last 24 hours and this would add {wanted} (relative cost)"
            raise OverCap("SORA_MAX_COST_PER_DAY", rules.day, reached)


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
    """Rows, newest first."""
    sql = f"SELECT * FROM videos WHERE {where} ORDER BY number DESC LIMIT {limit:d}"  # noqa: S608 - `where` is ours
    return [_entry(db, row) for row in db.execute(sql, values).fetchall()]


def places(values: Sequence[object]) -> str:
    """A `?` for each value."""
    return ", ".join("?" * len(values))


def _entry(db: sqlite3.Connection, row: sqlite3.Row) -> Entry:
    values = dict(row)
    variants = db.execute(
        "SELECT * FROM generations WHERE request_id = ? ORDER BY variant", (row["request_id"],)
    ).fetchall()
    with _readable(row["request_id"]):
        if values["state"] not in TRANSITIONS or any(isinstance(values[name], str | bytes) for name in _NUMBERS):
            raise ValueError
        return Entry(
            **(values | {name: json.loads(values[name]) for name in ("body", "sources")}),
            generations=tuple(Generation(**{name: v[name] for name in _GENERATION}) for v in variants),
            files={v["variant"]: Path(v["file"]) for v in variants if v["file"]},
        )


_NUMBERS = ("cost", "progress", "created_at", "updated_at", "looked_at", "not_before", "misses")
"""Columns in which SQLite would keep a text, too."""

_GENERATION = tuple(each.name for each in fields(Generation))


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
