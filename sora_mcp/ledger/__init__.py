"""The durable record of what was asked for, what became of it, and where the files are.

One SQLite file (WAL, full sync) shared by every process of the user. A row is one intent to make a
video, under our own id `req_…`; it stands there, synced to disk, before anything is sent. Rows carry
the gateway they went to: nothing is ever asked of another one. Nothing is deleted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio

from sora_mcp.errors import FileProblem, OverCap
from sora_mcp.ledger.file import open_file, open_to_read, transaction, why
from sora_mcp.ledger.writers import Writer
from sora_mcp.models import UNDER_WAY, Generation, State, Task

T = TypeVar("T")

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


@dataclass(frozen=True, slots=True)
class Intent:
    """A paid call before it is sent. Two with the same `fingerprint` ask for the same thing; `cost` is relative."""

    gateway: str
    operation: str
    body: dict[str, Any]
    fingerprint: str
    sources: list[str]
    cost: float | None


DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for a new row at its gateway: no duplicates within `guard_s` seconds, and caps (None: none).

    `day` bounds the sum of relative costs over 24 hours, `running` the number of videos under way.
    """

    guard_s: float = 0
    day: float | None = None
    running: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: an intent and what became of it. Times are unix seconds; `body` is the documented body."""

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
    generations: tuple[Generation, ...] = ()
    files: dict[int, Path] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id to show: the task's where there is one, else our own."""
        return self.task_id or self.request_id


class Ledger:
    """The ledger at `path`; opened, and made, at first use.

    Every method is one short transaction: in a worker thread where it writes or reads much. All raise
    FileProblem where the file cannot be read or written.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._one_at_a_time = anyio.CapacityLimiter(1)
        self._writer = Writer(path.parent / "writers")

    def close(self) -> None:
        """Close the file; what was recorded stays, what this process was still sending counts as unknown."""
        self._writer.release()
        for connection in (self._reader, self._connection):
            if connection is not None:
                connection.close()
        self._reader = self._connection = None

    async def gateway_name(self, base_url: str, api_key: str) -> str:
        """The name of a gateway in our rows: its address and a salted fingerprint of the key, never the key."""
        salt = await self._write(_salt)
        return f"{base_url}#{hmac.new(salt, api_key.encode(), hashlib.sha256).hexdigest()[:16]}"

    async def begin(self, intent: Intent, rules: Rules = Rules()) -> tuple[Entry, bool]:
        """Record an intent as *sending* and return its row and True. When this returns, it is on disk.

        Where the same was sent within the last `rules.guard_s` seconds (see COUNTS_AS_SENT), nothing is recorded:
        that row is returned, and False. Raises OverCap where a cap forbids it. Correct with any number of
        processes at once.
        """
        row = {"gateway": intent.gateway, "operation": intent.operation, "state": "sending", "cost": intent.cost}
        row |= {"fingerprint": intent.fingerprint, "writer": self._writer.id}
        where = f"gateway = ? AND fingerprint = ? AND +state IN ({_places(COUNTS_AS_SENT)})"
        where += " AND (+created_at > ? OR state = 'sending' OR (state = 'unknown' AND updated_at > ?))"

        def work(db: sqlite3.Connection) -> tuple[Entry, bool]:
            since = self._clock() - rules.guard_s
            if rules.guard_s and (
                same := _select(db, where, [intent.gateway, intent.fingerprint, *COUNTS_AS_SENT, since, since])
            ):
                return same[0], False
            self._check_caps(db, intent, rules)
            self._writer.hold()
            return self._insert(db, row, intent.body, intent.sources), True

        return await self._read(work, "BEGIN IMMEDIATE")

    async def adopt(self, gateway: str, task_id: str, task: Task) -> Entry:
        """Record a task that was made elsewhere with the same key, or bring the row that is there up to date."""
        body = task.body or {}
        row = {"gateway": gateway, "task_id": task_id, "operation": body.get("operation"), "state": "submitted"}
        if task.created_at is not None:
            row["created_at"] = task.created_at

        def work(db: sqlite3.Connection) -> Entry:
            known = _of_task(db, gateway, task_id)
            return self._update(db, known[0] if known else self._insert(db, row, body, []), task)

        return await self._write(work)

    async def accepted(self, request_id: str, task_id: str) -> Entry:
        """The gateway gave this task id."""
        return await self._write(lambda db: self._move(db, request_id, "submitted", task_id=task_id))

    async def not_accepted(self, request_id: str, state: State, reason: str) -> Entry:
        """Nothing was created (*rejected*), or nobody knows (*unknown*)."""
        return await self._write(lambda db: self._move(db, request_id, state, reason=reason))

    async def settle(self, gateway: str, request_id: str, task_id: str | None) -> Entry | None:
        """A person looked: an *unknown* row became this task, or (None) nothing. None where there is no such
        row, or the task has one of its own."""

        def work(db: sqlite3.Connection) -> Entry | None:
            if not _select(db, "gateway = ? AND request_id = ? AND state = 'unknown'", [gateway, request_id]):
                return None
            if task_id is not None and _of_task(db, gateway, task_id):
                return None
            if task_id is None:
                return self._move(db, request_id, "rejected", reason="settled: the gateway's log shows no such task")
            return self._move(db, request_id, "submitted", task_id=task_id, reason="settled by hand")

        return await self._write(work)

    async def history(self, request_id: str) -> list[tuple[State, float]]:
        """Every state that a row has had, with the unix second in which it began, oldest first."""
        sql = "SELECT state, at FROM history WHERE request_id = ? ORDER BY number"
        return await self._glance(lambda db: [(row[0], row[1]) for row in db.execute(sql, [request_id])])

    async def record(self, request_id: str, task: Task) -> Entry:
        """What a query said of a task that has a row. A final state stays; addresses are kept up to date."""
        return await self._write(lambda db: self._update(db, _of_request(db, request_id), task))

    def age(self, entry: Entry) -> float:
        """Seconds since a row was last brought up to date; for ever where the clock went back since."""
        age = self._clock() - entry.updated_at
        return age if age >= 0 else float("inf")

    async def saved(self, request_id: str, variant: int, file: Path) -> None:
        """A variant was downloaded to `file`."""
        sql = "UPDATE generations SET file = ? WHERE request_id = ? AND variant = ?"
        await self._write(lambda db: db.execute(sql, (str(file), request_id, variant)))

    async def find(self, gateway: str, video_id: str) -> Entry | None:
        """The row of a `task_…` or `req_…` id at this gateway."""
        column = "request_id" if video_id.startswith("req_") else "task_id"
        found = await self._glance(lambda db: _select(db, f"gateway = ? AND {column} = ?", [gateway, video_id]))
        return found[0] if found else None

    async def find_generation(self, gateway: str, generation_id: str) -> tuple[Entry, Generation] | None:
        """The row and the variant that a `gen_…` id belongs to."""
        where = "+gateway = ? AND request_id IN (SELECT request_id FROM generations WHERE generation_id = ?)"
        found = await self._glance(lambda db: _select(db, where, [gateway, generation_id]))
        if not found:
            return None
        return found[0], next(g for g in found[0].generations if g.generation_id == generation_id)

    async def page(
        self, gateway: str, *, limit: int, before: int | None = None, states: tuple[State, ...] = ()
    ) -> list[Entry]:
        """Rows, newest first: at most `limit`, with a `number` below `before`, in one of `states` if any are given."""
        older = f" AND number < {before:d}" if before is not None else ""

        def work(db: sqlite3.Connection) -> list[Entry]:
            if not states:
                return _select(db, f"gateway = ?{older}", [gateway], limit)
            # State by state: an index then gives each in order, however many rows stand in other states.
            found = [_select(db, f"gateway = ? AND state = ?{older}", [gateway, state], limit) for state in states]
            return sorted((entry for each in found for entry in each), key=lambda e: -e.number)[:limit]

        return await self._glance(work)

    async def check(self) -> dict[State, int]:
        """How many rows stand in each state, at all gateways. Raises FileProblem where the file is damaged."""

        def work(db: sqlite3.Connection) -> dict[State, int]:
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("malformed")
            return dict(db.execute("SELECT state, count(*) FROM videos GROUP BY state").fetchall())

        return await self._read(work)

    # --- inside a transaction ---------------------------------------------------------------------

    def _insert(self, db: sqlite3.Connection, row: dict[str, Any], body: dict[str, Any], sources: list[str]) -> Entry:
        now, request_id = self._clock(), f"req_{secrets.token_hex(12)}"
        row = row | {"request_id": request_id, "body": json.dumps(body), "sources": json.dumps(sources)}
        row = {"created_at": now} | row | {"updated_at": now}
        names = ", ".join(row)
        db.execute(f"INSERT INTO videos ({names}) VALUES (?{', ?' * (len(row) - 1)})", list(row.values()))  # noqa: S608 - our own names
        self._remember(db, request_id, row["state"], row.get("task_id"), None)
        return _of_request(db, request_id)

    def _check_caps(self, db: sqlite3.Connection, intent: Intent, rules: Rules) -> None:
        if rules.running is not None:
            under_way = ("sending", *UNDER_WAY)
            sql = f"SELECT count(*) FROM videos WHERE gateway = ? AND state IN ({_places(under_way)})"  # noqa: S608
            count = db.execute(sql, [intent.gateway, *under_way]).fetchone()[0]
            if count >= rules.running:
                raise OverCap("SORA_MAX_RUNNING", rules.running, f"{count} videos are under way")
        if rules.day is not None:
            sql = (
                "SELECT coalesce(sum(cost), 0) FROM videos WHERE gateway = ? AND created_at > ? AND state != 'rejected'"
            )
            spent = db.execute(sql, [intent.gateway, self._clock() - DAY_S]).fetchone()[0]
            if intent.cost is None or spent + intent.cost > rules.day:
                wanted = "an unknown cost" if intent.cost is None else f"{intent.cost:g}"
                reached = f"{spent:g} was spent in the last 24 hours and this would add {wanted} (relative cost)"
                raise OverCap("SORA_MAX_COST_PER_DAY", rules.day, reached)

    def _move(
        self,
        db: sqlite3.Connection,
        request_id: str,
        state: State,
        *,
        task_id: str | None = None,
        reason: str | None = None,
    ) -> Entry:
        """Move a row to `state` if that is allowed from where it stands."""
        entry = _of_request(db, request_id)
        if state not in TRANSITIONS[entry.state]:
            return entry
        db.execute(
            "UPDATE videos SET state = ?, task_id = coalesce(?, task_id), failure_reason = ?, updated_at = ?"
            " WHERE request_id = ?",
            (state, task_id, reason, self._clock(), request_id),
        )
        self._remember(db, request_id, state, task_id, reason)
        return _of_request(db, request_id)

    def _remember(
        self, db: sqlite3.Connection, request_id: str, state: State, task_id: str | None, reason: str | None
    ) -> None:
        db.execute(
            "INSERT INTO history (request_id, at, state, task_id, reason) VALUES (?, ?, ?, ?, ?)",
            (request_id, self._clock(), state, task_id, reason),
        )

    def _update(self, db: sqlite3.Connection, entry: Entry, task: Task) -> Entry:
        state = task.state if task.state in TRANSITIONS[entry.state] else entry.state
        if state != entry.state:
            self._remember(db, entry.request_id, state, None, task.failure_reason)
        db.execute(
            "UPDATE videos SET state = ?, progress = coalesce(?, progress), updated_at = ?,"
            " enhanced_prompt = coalesce(?, enhanced_prompt), failure_reason = coalesce(?, failure_reason)"
            " WHERE request_id = ?",
            (state, task.progress, self._clock(), task.enhanced_prompt, task.failure_reason, entry.request_id),
        )
        for generation in task.generations:
            _upsert_generation(db, entry.request_id, generation)
        return _of_request(db, entry.request_id)

    # --- the file ---------------------------------------------------------------------------------

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await anyio.to_thread.run_sync(self._transact, "BEGIN IMMEDIATE", work, limiter=self._one_at_a_time)

    async def _glance(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """A read of a few rows, in the event loop's own thread: in WAL it waits for nobody, and handing it to a worker
        costs eight times as much. Where anything is in the way, or in *sending*, a worker reads."""
        if self._reader is not None:
            with suppress(sqlite3.Error), transaction(self._reader, "BEGIN") as db:
                if not _sending(db):
                    return work(db)
        return await self._read(work)

    async def _read(self, work: Callable[[sqlite3.Connection], T], begin: str = "BEGIN") -> T:
        return await anyio.to_thread.run_sync(self._look, work, begin, limiter=self._one_at_a_time)

    def _look(self, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
        """Work on rows, after those in *sending* whose writer is gone have become *unknown*."""
        for request_id, writer in self._transact("BEGIN", _sending):
            if not self._writer.is_alive(writer):
                bury = partial(self._move, request_id=request_id, state="unknown", reason=GONE)
                self._transact("BEGIN IMMEDIATE", bury)
        return self._transact(begin, work)

    def _transact(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = open_file(self._path)
                self._reader = open_to_read(self._path)
            with transaction(self._connection, begin) as db:
                return work(db)
        except (sqlite3.Error, OSError) as error:
            raise FileProblem(
                f"The ledger {self._path} cannot be used ({why(error)}).",
                "Ask the user to check that folder (setting SORA_HOME): it must be writable, with free space.",
            ) from error


def _sending(db: sqlite3.Connection) -> list[tuple[str, str | None]]:
    return [(row[0], row[1]) for row in db.execute("SELECT request_id, writer FROM videos WHERE state = 'sending'")]


def _salt(db: sqlite3.Connection) -> bytes:
    row = db.execute("SELECT value FROM salt").fetchone()
    if row is None:
        row = (secrets.token_bytes(16),)
        db.execute("INSERT INTO salt VALUES (?)", row)
    return bytes(row[0])


def _places(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _of_request(db: sqlite3.Connection, request_id: str) -> Entry:
    return _select(db, "request_id = ?", [request_id])[0]


def _of_task(db: sqlite3.Connection, gateway: str, task_id: str) -> list[Entry]:
    return _select(db, "gateway = ? AND task_id = ?", [gateway, task_id])


# A `+` before a column keeps SQLite from walking all rows of a gateway where a narrower index is there.


def _select(db: sqlite3.Connection, where: str, values: Sequence[object], limit: int = 1) -> list[Entry]:
    sql = f"SELECT * FROM videos WHERE {where} ORDER BY number DESC LIMIT {limit:d}"  # noqa: S608 - `where` is ours
    return [_entry(db, row) for row in db.execute(sql, values).fetchall()]


def _entry(db: sqlite3.Connection, row: sqlite3.Row) -> Entry:
    values = dict(row)
    variants = db.execute(
        "SELECT * FROM generations WHERE request_id = ? ORDER BY variant", (row["request_id"],)
    ).fetchall()
    return Entry(
        **(values | {name: json.loads(values[name]) for name in ("body", "sources")}),
        generations=tuple(Generation(**{name: v[name] for name in Generation.model_fields}) for v in variants),
        files={v["variant"]: Path(v["file"]) for v in variants if v["file"]},
    )


def _upsert_generation(db: sqlite3.Connection, request_id: str, generation: Generation) -> None:
    fields = generation.model_dump()
    names = ", ".join(fields)
    updates = ", ".join(f"{name} = coalesce(excluded.{name}, {name})" for name in fields if name != "variant")
    db.execute(
        f"INSERT INTO generations (request_id, {names}) VALUES (?{', ?' * len(fields)})"  # noqa: S608 - our own names
        f" ON CONFLICT (request_id, variant) DO UPDATE SET {updates}",
        (request_id, *fields.values()),
    )
