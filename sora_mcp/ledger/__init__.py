"""The durable record of what was asked for, what became of it, and where the files are.

One SQLite file (WAL, full sync) shared by every process of the user. A row is one intent to make a
video, under our own id `req_…`; it stands there, synced to disk, before anything is sent. Rows carry
the gateway they went to: nothing is ever asked of another one. Nothing is deleted.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio

from sora_mcp.core.accounts import Account
from sora_mcp.core.errors import FileProblem, OverCap
from sora_mcp.core.records import DAY_S, Entry, GivenUp, Intent, summary
from sora_mcp.core.spending import NO_POLICY, WINDOW_S, Spending, SpendingPolicy
from sora_mcp.core.states import may_move
from sora_mcp.core.tasks import UNDER_WAY, Generation, State, Task
from sora_mcp.ledger import migrations, rows
from sora_mcp.ledger.file import BRIEFLY_S, BUSY_S, File, Held, OlderRelease
from sora_mcp.ledger.integrity import TAKEN_AWAY, Damaged, Malformed, identity
from sora_mcp.ledger.rows import GONE, of_request, of_task, places, select
from sora_mcp.ledger.turns import turn
from sora_mcp.ledger.writers import Writer

T = TypeVar("T")
_WAIT_FOR_OLDER_S = 10.0
"""Seconds to wait until an older release has recorded what it is sending."""
_LOOK_EVERY_S = 0.2


class Ledger:
    """The ledger at `path`; opened, and made, at first use.

    Every method is one short transaction: in a worker thread where it writes or reads much. All raise
    FileProblem where the file cannot be read or written.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = File(path, self._nobody_sends)
        self._clock = clock
        self._one_at_a_time = anyio.CapacityLimiter(1)
        self._writer = Writer(path.parent / "writers")
        self._newest: tuple[int, str] | None = None
        """Number and request id of the last row that was begun here."""

    def close(self) -> None:
        """Close the file; what was recorded stays, what this process was still sending counts as unknown."""
        mine = sending = self._writer.ids
        if mine:
            with suppress(FileProblem):
                sending = {writer for _, writer, _ in self._file.transact("BEGIN", rows.sending) if writer is not None}
        self._writer.release(kept=mine & sending)
        self._file.close()

    def owns(self, path: Path | int) -> bool:
        """Whether a path (or an open file) leads to one of the ledger's own files, whatever name it has there.

        To open one and close it again gives back the locks that this process holds on it (POSIX), so only SQLite may.
        """
        found = identity(path)
        return found is not None and found in map(identity, (*self._file.paths, *self._writer.paths()))

    async def account(self, base_url: str, api_key: str, owner: str = "") -> Account:
        """The account of a key at a gateway: with the fingerprint that the key has in this ledger."""
        salt = await self._read(rows.salt_of)
        if salt is None:
            salt = await self._write(_salt)
        return Account.of_key(salt, base_url, api_key, owner)

    # --- paid -------------------------------------------------------------------------------------

    async def begin(self, intent: Intent, policy: SpendingPolicy = NO_POLICY) -> tuple[Entry, bool]:
        """Record an intent as *sending* and return its row and True. When this returns, it is on disk.

        Where the policy takes it for a duplicate nothing is recorded: the first one's row is returned, and False.
        Raises OverCap where the policy forbids it. It decides in the transaction that records the intent, so that
        this is correct with any number of processes at once.
        """
        row = {
            "operation": intent.operation,
            "state": "sending",
            "cost": intent.cost,
            "fingerprint": intent.fingerprint,
        }

        def work(db: sqlite3.Connection) -> tuple[Entry, bool] | OverCap:
            self._check_version(db)
            if self._newest and not select(db, "number = ? AND request_id = ?", self._newest):
                raise Damaged(self._file.path, TAKEN_AWAY)  # an older copy was put in its place, in the same file
            self._bury_the_abandoned(db)
            try:
                same = self._decide(db, intent, policy)
            except OverCap as refusal:
                return refusal  # not raised: what was found out about abandoned rows is to be committed
            if same:
                return same, False
            return self._insert(
                db, intent.account, row | {"writer": self._writer.hold()}, intent.body, intent.sources
            ), True

        begun = await self._once_older_are_done(lambda: self._write(work))
        if isinstance(begun, OverCap):
            raise begun
        entry, is_new = begun
        if is_new:
            self._newest = (entry.number, entry.request_id)
        return begun

    async def _once_older_are_done(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` returns, once no older release is in the middle of a POST. Raises OlderRelease in the end."""
        give_up_at = anyio.current_time() + _WAIT_FOR_OLDER_S
        while True:
            try:
                return await attempt()
            except OlderRelease:
                if anyio.current_time() > give_up_at:
                    raise
                await anyio.sleep(_LOOK_EVERY_S)

    async def duplicate_of(self, intent: Intent, policy: SpendingPolicy) -> Entry | None:
        """The row that `begin` would return as the first of two, None for a new one; as can be told beforehand.

        Raises OverCap where `begin` would.
        """
        return await self._glance(lambda db: self._decide(db, intent, policy))

    async def refused_before(self, intent: Intent) -> Entry | None:
        """The newest row of the last 24 hours that asked for the same thing and was rejected, failed or blocked."""
        return await self._glance(lambda db: rows.refused_before(db, intent, self._clock() - DAY_S))

    async def accepted(self, request_id: str, task_id: str, other_ids: Sequence[str] = ()) -> Entry:
        """The gateway gave this task id, and perhaps others beside it.

        Where a person had said meanwhile that another task came of it, this one gets a row of its own. A task that
        another request has already leaves the outcome *unknown*.
        """

        def work(db: sqlite3.Connection) -> Entry:
            entry = of_request(db, request_id)
            if entry.task_id not in {None, task_id}:
                row = {"operation": entry.operation, "state": "submitted", "cost": entry.cost}
                row |= {"task_id": task_id, "fingerprint": entry.fingerprint}
                known = of_task(db, entry.account, task_id)
                return known or self._insert(db, entry.account, row, entry.body, entry.sources)
            reason = f"the gateway answered with {task_id}, which is the task of another request"
            taken = self._take(db, entry, task_id, other_ids=other_ids)
            return taken or self._move(db, request_id, "unknown", reason=reason)

        return await self._write(work)

    async def not_accepted(
        self,
        request_id: str,
        state: State,
        reason: str,
        *,
        gateway_message: str | None = None,
        code: str | None = None,
        answer: str | None = None,
    ) -> Entry:
        """Nothing was created (*rejected*), or nobody knows (*unknown*); with the gateway's own words, if any."""
        words = {"gateway_message": gateway_message, "failure_code": code, "answer": answer}
        return await self._write(lambda db: self._move(db, request_id, state, reason=reason, **words))

    async def is_sending(self, request_id: str) -> bool:
        """Whether a row still stands as *sending* in the file that is in place. Where nobody can tell, it does not."""
        with suppress(FileProblem):
            return request_id in [each[0] for each in await self._read(rows.sending)]
        return False

    async def settle(
        self, account: Account, request_id: str, task_id: str | None, *, given_up: GivenUp | None = None
    ) -> Entry | None:
        """A person looked: an *unknown* row became this task, or (None) nothing.

        Nothing also came of the task `given_up`, which is under way. None where there is no such row, or the task
        belongs to another request.
        """

        def work(db: sqlite3.Connection) -> Entry | None:
            entry = rows.find(db, account, request_id)
            if entry is None:
                return None
            own_id = entry.request_id
            if task_id is None and given_up is not None and entry.task_id == given_up.task_id:
                return self._move(db, own_id, "failed", reason=f"settled: {given_up.reason}")
            if entry.state != "unknown":
                return None
            if task_id is None:
                return self._move(db, own_id, "rejected", reason="settled: the gateway's log shows no such task")
            return self._take(db, entry, task_id, reason="settled by hand")

        return await self._write(work)

    # --- what the gateway says --------------------------------------------------------------------

    async def adopt(self, account: Account, task_id: str, task: Task) -> Entry:
        """Record a task that was made elsewhere with the same key, or bring the row that is there up to date."""
        body = task.body or {}
        row: dict[str, Any] = {"task_id": task_id, "operation": body.get("operation"), "state": "submitted"}
        if task.created_at is not None:
            row["created_at"] = task.created_at

        def work(db: sqlite3.Connection) -> Entry:
            entry = of_task(db, account, task_id) or self._insert(db, account, row, body, [])
            return self._update(db, entry, task)

        return await self._write(work)

    def turn(self, request_id: str, pause_s: float = 0) -> AbstractAsyncContextManager[bool]:
        """Whether this process alone may ask the gateway about a task now; nobody else does until this ends.

        What goes wrong inside counts as a miss: the task is not asked about for `pause_s` seconds then, or as long as
        the gateway asked for. A process that is killed has had its turn after `turns.LEASE_S` seconds.
        """
        return turn(partial(self._write, patience_s=BRIEFLY_S), self._clock, request_id, pause_s)

    async def record(self, asked: Entry, task: Task, quiet_s: float | None = 0) -> Entry:
        """What a query said of the task of a row; it is not asked again for `quiet_s` seconds.

        With None nothing changes about when it may be asked: a claim, and the misses before it, stay as they are.
        A final state stays; addresses are kept up to date. Where another row has the task now, it is that one's.
        """

        def work(db: sqlite3.Connection) -> Entry:
            entry = of_request(db, asked.request_id)
            if entry.task_id != asked.task_id and asked.task_id is not None:
                entry = of_task(db, asked.account, asked.task_id) or entry
            return entry if entry.task_id is None else self._update(db, entry, task, quiet_s)

        return await self._write(work)

    async def saved(self, request_id: str, variant: int, file: Path) -> None:
        """A variant was downloaded to `file`."""
        sql = "UPDATE generations SET file = ? WHERE request_id = ? AND variant = ?"
        await self._write(lambda db: db.execute(sql, (str(file), request_id, variant)))

    async def is_file_of_another(self, request_id: str, file: Path) -> bool:
        """Whether a file was saved for another row."""
        sql = "SELECT 1 FROM generations WHERE file = ? AND request_id != ? LIMIT 1"
        return await self._read(lambda db: db.execute(sql, (str(file), request_id)).fetchone() is not None)

    # --- reading ----------------------------------------------------------------------------------

    async def find(self, account: Account, video_id: str) -> Entry | None:
        """The row of a `task_…` or `req_…` id at this gateway, whatever key it was made with."""
        read = partial(rows.find, account=account, video_id=video_id)
        return await self._glance(read, key=(account, video_id))

    async def find_generation(self, account: Account, generation_id: str) -> tuple[Entry, Generation] | None:
        """The row and the variant that a `gen_…` id belongs to."""
        where = "+gateway = ? AND request_id IN (SELECT request_id FROM generations WHERE generation_id = ?)"
        found = await self._glance(lambda db: select(db, where, [rows.name_of(account), generation_id]))
        if not found:
            return None
        return found[0], next(g for g in found[0].generations if g.generation_id == generation_id)

    async def is_of_another_owner(self, account: Account, shown_id: str) -> bool:
        """Whether a `task_…` or `gen_…` id stands here under the same gateway and key, but another owner."""
        of_generation = "request_id IN (SELECT request_id FROM generations WHERE generation_id = ?)"
        which = f"(task_id = ? OR {of_generation})"
        which += " AND fingerprint IS NOT NULL"  # who asked about a task has not made it
        sql = f"SELECT 1 FROM videos WHERE +address = ? AND +key_fingerprint = ? AND +owner != ? AND {which} LIMIT 1"  # noqa: S608
        values = [account.address, account.key_fingerprint, account.owner, shown_id, shown_id]
        return await self._read(lambda db: db.execute(sql, values).fetchone() is not None)

    async def page(
        self, account: Account, *, limit: int, before: int | None = None, states: tuple[State, ...] = ()
    ) -> list[Entry]:
        """Rows, newest first: at most `limit`, with a `number` below `before`, in one of `states` if any are given."""
        return await self._glance(lambda db: rows.page(db, account, limit=limit, before=before, states=states))

    async def under_way(self, account: Account, limit: int) -> list[Entry]:
        """The newest rows of the last 24 hours whose task the gateway has not finished."""
        read = partial(rows.page, account=account, limit=limit, states=UNDER_WAY)
        found = await self._glance(read, key=("under way", account, limit))
        since = self._clock() - DAY_S
        return [entry for entry in found if entry.created_at > since]

    async def without_address(self, account: Account, limit: int) -> list[Entry]:
        """Videos that succeeded within the last hour, but have no address yet."""
        return await self._glance(lambda db: rows.without_address(db, account, self._clock(), limit))

    async def unsaved(self, account: Account, limit: int) -> list[Entry]:
        """Videos of the last 24 hours that succeeded and have a variant with an address and without a file."""
        return await self._glance(lambda db: rows.unsaved(db, account, self._clock(), limit))

    async def spending(self, account: Account) -> Spending:
        """What the caps look at."""
        return await self._read(lambda db: rows.spending(db, account, self._clock() - WINDOW_S))

    async def history(self, request_id: str) -> list[tuple[State, float]]:
        """Every state that a row has had, with the unix second in which it began, oldest first."""
        sql = "SELECT state, at FROM history WHERE request_id = ? ORDER BY number"
        return await self._glance(lambda db: [(row[0], row[1]) for row in db.execute(sql, [request_id])])

    async def check(self) -> dict[State, int]:
        """How many rows stand in each state, at all gateways.

        Raises FileProblem where the file is damaged, or one of its newest rows.
        """

        def work(db: sqlite3.Connection) -> dict[State, int]:
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise Malformed
            for entry in select(db, "1", [], CHECKED):
                summary(entry)
            counts: dict[State, int] = dict(
                db.execute("SELECT state, count(*) FROM videos WHERE merged_into IS NULL GROUP BY state").fetchall()
            )
            if counts:
                _salt(db)
            return counts

        return await self._read(work)

    def exists(self) -> bool:
        """Whether anything was ever recorded here."""
        return self._file.exists()

    def now(self) -> float:
        """The ledger's clock, in unix seconds."""
        return self._clock()

    def age(self, entry: Entry) -> float:
        """Seconds since a row was last brought up to date; for ever where the clock went back since."""
        age = self._clock() - entry.updated_at
        return age if age >= 0 else float("inf")

    # --- inside a transaction ---------------------------------------------------------------------

    def _insert(
        self, db: sqlite3.Connection, account: Account, row: dict[str, Any], body: dict[str, Any], sources: list[str]
    ) -> Entry:
        now, request_id = self._clock(), f"req_{secrets.token_hex(12)}"
        row = row | {"request_id": request_id, "body": json.dumps(body), "sources": json.dumps(sources)}
        row = {"created_at": now} | rows.columns_of(account) | row | {"updated_at": now}
        names, values = ", ".join(row), list(row.values())
        db.execute(f"INSERT INTO videos ({names}) VALUES ({places(values)})", values)  # noqa: S608 - our own names
        self._remember(db, request_id, row["state"], row.get("task_id"), None)
        return of_request(db, request_id)

    def _decide(self, db: sqlite3.Connection, intent: Intent, policy: SpendingPolicy) -> Entry | None:
        """The request of which `intent` is a duplicate, None for a new one, as the policy decides. Raises OverCap."""
        duplicate_of = policy.decide(intent.cost, rows.standing(db, intent, self._clock()))
        return None if duplicate_of is None else of_request(db, duplicate_of)

    def _take(
        self,
        db: sqlite3.Connection,
        entry: Entry,
        task_id: str,
        *,
        reason: str | None = None,
        other_ids: Sequence[str] = (),
    ) -> Entry | None:
        """Give a task to the row that it came of. None where it belongs to another request.

        Where a query adopted it before that was known, whoever waits for the adopted row finds `entry` from now on.
        """
        adopted = of_task(db, entry.account, task_id)
        if adopted is not None and adopted.number == entry.number:
            adopted = None
        if adopted is not None and adopted.fingerprint is not None:
            return None
        if adopted is not None:
            self._merge(db, adopted, entry)
        more = {"other_ids": json.dumps(list(other_ids))}
        taken = self._move(db, entry.request_id, "submitted", task_id=task_id, reason=reason, **more)
        return taken if adopted is None else self._update(db, taken, _as_task(adopted), None)

    def _merge(self, db: sqlite3.Connection, adopted: Entry, entry: Entry) -> None:
        db.execute("UPDATE generations SET request_id = ? WHERE request_id = ?", (entry.request_id, adopted.request_id))
        sql = "UPDATE videos SET task_id = NULL, merged_into = ? WHERE request_id = ?"
        db.execute(sql, (entry.request_id, adopted.request_id))
        self._remember(db, adopted.request_id, adopted.state, None, f"merged into {entry.request_id}")

    def _move(
        self,
        db: sqlite3.Connection,
        request_id: str,
        state: State,
        *,
        task_id: str | None = None,
        reason: str | None = None,
        **more: str | None,
    ) -> Entry:
        """Move a row to `state` if that is allowed from where it stands; `more` are further columns."""
        entry = of_request(db, request_id)
        if not may_move(entry.state, state):
            return entry
        values: dict[str, str | float | None] = {
            "state": state,
            "task_id": task_id or entry.task_id,
            "failure_reason": reason,
            "gateway_state": None,  # this move comes of no look
        }
        values |= {"updated_at": self._clock(), **more}
        columns = ", ".join(f"{name} = ?" for name in values)
        sql = f"UPDATE videos SET {columns} WHERE request_id = ?"  # noqa: S608 - our own names
        db.execute(sql, [*values.values(), entry.request_id])
        self._remember(db, entry.request_id, state, task_id, reason)
        return of_request(db, entry.request_id)

    def _remember(
        self, db: sqlite3.Connection, request_id: str, state: State, task_id: str | None, reason: str | None
    ) -> None:
        db.execute(
            "INSERT INTO history (request_id, at, state, task_id, reason) VALUES (?, ?, ?, ?, ?)",
            (request_id, self._clock(), state, task_id, reason),
        )

    def _update(self, db: sqlite3.Connection, entry: Entry, task: Task, quiet_s: float | None = 0) -> Entry:
        state = task.state if may_move(entry.state, task.state) else entry.state
        if state != entry.state:
            self._remember(db, entry.request_id, state, None, task.failure_reason)
        word = task.gateway_state if state == task.state else entry.gateway_state  # that of the look that decided
        now = self._clock()
        ended_well = state == "succeeded"  # whatever was said before
        db.execute(
            "UPDATE videos SET state = ?, progress = coalesce(?, progress), updated_at = ?, looked_at = ?,"
            " not_before = coalesce(?, not_before), misses = iif(?, 0, misses),"
            " gateway_state = ?, enhanced_prompt = coalesce(?, enhanced_prompt),"
            " failure_reason = iif(?, NULL, coalesce(?, failure_reason)),"
            " gateway_message = iif(?, NULL, coalesce(?, gateway_message)),"
            " failure_code = coalesce(?, iif(?, NULL, failure_code)), withheld = coalesce(?, withheld)"
            " WHERE request_id = ?",
            (
                *(state, task.progress, now, now, None if quiet_s is None else now + quiet_s, quiet_s is not None),
                *(word or None, task.enhanced_prompt, ended_well, task.failure_reason),
                *(ended_well, task.gateway_message, task.failure_code, ended_well, task.withheld, entry.request_id),
            ),
        )
        rows.upsert_generations(db, entry.request_id, task)
        return of_request(db, entry.request_id)

    def _check_version(self, db: sqlite3.Connection) -> None:
        """Raise FileProblem where a newer release has brought the file up to date since it was opened here."""
        if not migrations.is_current(db):
            raise FileProblem(
                "A newer release of sora-mcp has taken over the ledger while this one was running.",
                "Ask the user to restart this server (the window that it runs in).",
            )

    def _nobody_sends(self, db: sqlite3.Connection) -> bool:
        now = self._clock()
        return all(self._writer.is_gone(writer, now - since) for _, writer, since in rows.sending(db))

    # --- the file ---------------------------------------------------------------------------------

    async def _write(self, work: Callable[[sqlite3.Connection], T], patience_s: float = BUSY_S) -> T:
        write = partial(self._file.transact, "BEGIN IMMEDIATE", work, patience_s)
        return await anyio.to_thread.run_sync(write, limiter=self._one_at_a_time)

    async def _glance(self, work: Callable[[sqlite3.Connection], T], key: Hashable = None) -> T:
        """A read of a few rows, in the event loop's own thread: in WAL it waits for nobody, and handing it to a worker
        costs eight times as much. Where anything is in the way, a worker reads."""
        with suppress(sqlite3.Error, OSError):
            return self._file.glance(work, key)
        return await self._read(work)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await anyio.to_thread.run_sync(self._look, work, limiter=self._one_at_a_time)

    def _look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Work on rows, after those in *sending* whose writer is gone have become *unknown*."""
        if self._file.transact("BEGIN", self._abandoned):
            with suppress(Held):  # they stay as they are until it can be written
                self._file.transact("BEGIN IMMEDIATE", self._bury_the_abandoned, BRIEFLY_S)
        return self._file.transact("BEGIN", work)

    def _abandoned(self, db: sqlite3.Connection) -> list[str]:
        """The rows in *sending* whose writer is gone."""
        now = self._clock()
        return [
            request_id for request_id, writer, since in rows.sending(db) if self._writer.is_gone(writer, now - since)
        ]

    def _bury_the_abandoned(self, db: sqlite3.Connection) -> None:
        for request_id in self._abandoned(db):
            self._move(db, request_id, "unknown", reason=GONE)


def _as_task(entry: Entry) -> Task:
    """What was known of the task of a row."""
    return Task(
        entry.state,
        progress=entry.progress,
        gateway_state=entry.gateway_state or "",
        enhanced_prompt=entry.enhanced_prompt,
        failure_reason=entry.failure_reason,
    )


CHECKED = 1000
"""Rows that a check reads, the newest."""


def _salt(db: sqlite3.Connection) -> bytes:
    """The salt, made with the first row: with another, nothing that was paid for would be found again."""
    salt = rows.salt_of(db)
    if salt is None:
        if db.execute("SELECT 1 FROM videos LIMIT 1").fetchone():
            raise Malformed
        salt = secrets.token_bytes(16)
        db.execute("INSERT INTO salt VALUES (?)", (salt,))
    return salt


__all__ = ["GONE", "Account", "Entry", "GivenUp", "Intent", "Ledger", "Spending", "SpendingPolicy"]
