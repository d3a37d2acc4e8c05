"""Ledger methods for paid calls, documented in `Ledger`."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import anyio

from sora_mcp.core.accounts import Account
from sora_mcp.core.caps import OverCap
from sora_mcp.core.errors import FileProblem
from sora_mcp.core.records import DAY_S, AbandonedTask, EarlierMatches, Entry, Intent
from sora_mcp.core.spending import NO_POLICY, SpendingPolicy
from sora_mcp.core.tasks import State
from sora_mcp.ledger.sql import lines, listing, rows
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.rows import find_by_task, get_by_request
from sora_mcp.ledger.sql.transactions import Admission, OlderRelease, Transactions

T = TypeVar("T")
_OLDER_RELEASE_TIMEOUT_S = 10.0
"""Seconds to wait until an older release has recorded the answer to its POST."""
_POLL_INTERVAL_S = 0.2
_SEAL_KEY_BYTES = 32
SEAL_KEY_LIFETIME_S = 86_400.0
"""Seconds for which a key seals, before another is made."""
SEAL_KEY_GRACE_S = 3_600.0
"""Seconds for which a key still opens what it has sealed, once there is another: longer than an answer is valid."""


class Paying(Transactions):
    """Intents and their outcomes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._admission = Admission()

    async def begin(self, intent: Intent, policy: SpendingPolicy = NO_POLICY) -> tuple[Entry, bool]:
        async with self._admission.turn(self._busy_error):
            return await self._begin_in_turn(intent, policy)

    async def _begin_in_turn(self, intent: Intent, policy: SpendingPolicy) -> tuple[Entry, bool]:
        def work(db: Database) -> tuple[Entry, bool] | OverCap:
            db.lock(f"gateway {intent.account.address}")
            read_preconditions, decide = self._query_preconditions(db), self._query_duplicate(db, intent, policy)
            preconditions = read_preconditions()
            if preconditions.abandoned:
                self._mark_unknown(db, preconditions.abandoned)
                decide = self._query_duplicate(db, intent, policy)
            try:
                first = decide()
            except OverCap as refusal:
                return refusal  # not raised: the changes of abandoned rows are to be committed
            entry, is_new = (self._begin(db, intent, preconditions.writer()), True) if first is None else (first, False)
            if intent.line is not None:
                lines.record_line(db, intent.account, intent.line, entry)
            return entry, is_new

        begun = await _retry_during_older_release(lambda: self._write(work))
        if isinstance(begun, OverCap):
            raise begun
        entry, is_new = begun
        if is_new:
            self._newest = (entry.number, entry.request_id)
        return begun

    async def check_can_begin(self) -> None:
        # A write as in `begin`: a read may see less than this server knows.
        await self._write_in_background(lambda db: self._query_preconditions(db)())

    async def find_earlier(self, intent: Intent, policy: SpendingPolicy) -> EarlierMatches:
        def work(db: Database) -> EarlierMatches:
            duplicate = self._query_duplicate(db, intent, policy)()
            return EarlierMatches(duplicate, listing.find_refused(db, intent, self._clock() - DAY_S))

        return await self._quick_read(work)

    async def record_accepted(self, request_id: str, task_id: str, other_ids: Sequence[str] = ()) -> Entry:
        def work(db: Database) -> Entry:
            db.lock(f"task {task_id}")
            is_known = rows.query_is_known(db, task_id)
            entry, changes = get_by_request(db, request_id), self._changes(db)
            if entry.task_id == task_id and entry.state not in {"unknown", "rejected"}:  # it is recorded again
                return entry
            if entry.task_id not in {None, task_id}:
                row: dict[str, Any] = {"operation": entry.operation, "state": "submitted"} | rows.cost_columns(
                    entry.cost
                )
                row |= {"task_id": task_id, "fingerprint": entry.fingerprint} | rows.dialect_columns(entry)
                existing = find_by_task(db, entry.account, task_id)
                return existing or changes.insert(entry.account, row, entry.body, entry.sources)
            reason = f"the gateway answered with {task_id}, which is the task of another request"
            assigned = changes.assign_task(entry, task_id, is_known=is_known(), other_ids=other_ids)
            return assigned or changes.move(entry, "unknown", reason=reason)

        return await self._write(work)

    async def record_not_accepted(
        self,
        request_id: str,
        state: State,
        reason: str,
        *,
        gateway_message: str | None = None,
        code: str | None = None,
        answer: str | None = None,
    ) -> Entry:
        columns = {"gateway_message": gateway_message, "failure_code": code, "answer": answer}

        def work(db: Database) -> Entry:
            return self._changes(db).move(get_by_request(db, request_id), state, reason=reason, **columns)

        return await self._write(work)

    async def restore(self, entry: Entry) -> None:
        def work(db: Database) -> None:
            if db.execute("SELECT 1 FROM videos WHERE request_id = ?", [entry.request_id]).fetchone() is None:
                row: dict[str, Any] = {"operation": entry.operation, "state": "unknown"} | rows.cost_columns(entry.cost)
                row |= {name: getattr(entry, name) for name in ("fingerprint", "writer", "created_at")}
                row |= rows.dialect_columns(entry)
                row["failure_reason"] = "the ledger was taken back to an earlier copy while this was being sent"
                self._changes(db).insert(entry.account, row, entry.body, entry.sources, entry.request_id)

        await self._write(work)

    async def is_sending(self, request_id: str) -> bool:
        with suppress(FileProblem):
            return request_id in [each[0] for each in await self._read(rows.find_sending)]
        return False

    async def settle(
        self, account: Account, request_id: str, task_id: str | None, *, given_up: AbandonedTask | None = None
    ) -> Entry | None:
        def work(db: Database) -> Entry | None:
            if task_id is not None:
                db.lock(f"task {task_id}")
            entry = rows.find(db, account, request_id)
            if entry is None:
                return None
            changes = self._changes(db)
            if task_id is None and given_up is not None and entry.task_id == given_up.task_id:
                return changes.move(entry, "failed", reason=f"settled: {given_up.reason}")
            was_settled_as_not_run = entry.state == "rejected" and entry.settled_at is not None
            if entry.state != "unknown" and not (task_id and was_settled_as_not_run):
                return None
            if task_id is None:
                return changes.mark_not_run(entry, "settled: the gateway's log shows no such task")
            return changes.assign_task(
                entry, task_id, is_known=rows.query_is_known(db, task_id)(), reason="settled by hand"
            )

        return await self._write(work)

    async def seal_keys(self) -> list[bytes]:
        keys = await self._read(self._seal_keys)
        return [key for key, _ in keys] if self._is_fresh(keys) else await self._write(self._rotate_seal_keys)

    async def use_answer(self, answer_id: str, ttl_s: float) -> bool:
        def work(db: Database) -> bool:
            now = self._clock()
            db.execute("DELETE FROM used_answers WHERE kept_until < ?", [now])
            sql = "INSERT INTO used_answers (answer_id, kept_until) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1"
            return bool(db.execute(sql, [answer_id, now + ttl_s]).fetchall())

        return await self._write(work)

    # --- inside a transaction ---------------------------------------------------------------------

    def _begin(self, db: Database, intent: Intent, writer: str) -> Entry:
        for request_id in intent.settles:
            settled = rows.find(db, intent.account, request_id)
            if settled is not None and settled.state == "unknown":
                reason = "settled: whoever asked for it says that it did not run"
                self._changes(db).mark_not_run(settled, reason)
        row: dict[str, Any] = {"operation": intent.operation, "state": "sending"} | rows.cost_columns(intent.cost)
        row |= {"fingerprint": intent.fingerprint, "writer": writer} | rows.dialect_columns(intent)
        row |= {"sent_fingerprint": intent.sent_fingerprint} if intent.sent_fingerprint else {}
        return self._changes(db).insert(intent.account, row, intent.body, intent.sources)

    @staticmethod
    def _seal_keys(db: Database) -> list[tuple[bytes, float]]:
        """Return the keys and when they were created, newest first."""
        rows = db.execute("SELECT key, made_at FROM seal_keys ORDER BY number DESC")
        return [(bytes(key), float(made_at)) for key, made_at in rows]

    def _is_fresh(self, keys: list[tuple[bytes, float]]) -> bool:
        """Return whether the newest key may still seal. One of the future was created by a wrong clock."""
        return bool(keys) and abs(self._clock() - keys[0][1]) < SEAL_KEY_LIFETIME_S

    def _rotate_seal_keys(self, db: Database) -> list[bytes]:
        """Create another key if the newest is old, and delete those that open nothing any more."""
        db.lock("seal keys")
        keys = self._seal_keys(db)
        if not self._is_fresh(keys):
            new_key = (secrets.token_bytes(_SEAL_KEY_BYTES), self._clock())
            db.execute("INSERT INTO seal_keys (key, made_at) VALUES (?, ?)", new_key)
            keys = [new_key, *keys]
        # A key has sealed until the next one was created.
        usable = [
            key
            for number, (key, _) in enumerate(keys)
            if number == 0 or self._clock() - keys[number - 1][1] < SEAL_KEY_GRACE_S
        ]
        for key, _ in keys:
            if key not in usable:
                db.execute("DELETE FROM seal_keys WHERE key = ?", [key])
        return usable

    def _query_duplicate(self, db: Database, intent: Intent, policy: SpendingPolicy) -> Callable[[], Entry | None]:
        """Query now what the policy needs to decide, and return a function that returns the request of which `intent`
        is a duplicate, or None. That function raises OverCap."""
        standing = listing.query_standing(db, intent, policy, self._clock())

        def decide() -> Entry | None:
            if intent.line is not None and (own := lines.blocking_request(db, intent.account, intent.line)) is not None:
                return own
            duplicate_of = policy.decide(intent.cost, standing())
            return None if duplicate_of is None else get_by_request(db, duplicate_of)

        return decide


async def _retry_during_older_release(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what `attempt` returns, retrying while an older release is in the middle of a POST. Raises OlderRelease
    after _OLDER_RELEASE_TIMEOUT_S."""
    deadline = anyio.current_time() + _OLDER_RELEASE_TIMEOUT_S
    while True:
        try:
            return await attempt()
        except OlderRelease:
            if anyio.current_time() > deadline:
                raise
            await anyio.sleep(_POLL_INTERVAL_S)
