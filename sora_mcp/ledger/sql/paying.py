"""What is recorded of a paid call. See `Ledger` for what each method promises."""

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
from sora_mcp.ledger.sql.rows import of_request, of_task
from sora_mcp.ledger.sql.transactions import Admission, OlderRelease, Transactions

T = TypeVar("T")
_WAIT_FOR_OLDER_S = 10.0
"""Seconds to wait until an older release has recorded what it is sending."""
_LOOK_EVERY_S = 0.2
_SEAL_KEY_BYTES = 32
SEAL_FOR_S = 86_400.0
"""Seconds for which a key seals, before another is made."""
OPEN_FOR_S = 3_600.0
"""Seconds for which a key still opens what it has sealed, once there is another: longer than an answer counts."""


class Paying(Transactions):
    """Intents and their outcomes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._admission = Admission()

    async def begin(self, intent: Intent, policy: SpendingPolicy = NO_POLICY) -> tuple[Entry, bool]:
        async with self._admission.turn(self._busy):
            return await self._begin_in_turn(intent, policy)

    async def _begin_in_turn(self, intent: Intent, policy: SpendingPolicy) -> tuple[Entry, bool]:
        def work(db: Database) -> tuple[Entry, bool] | OverCap:
            db.lock(f"gateway {intent.account.address}")
            read_footing, decide = self._footing(db), self._deciding(db, intent, policy)
            footing = read_footing()
            if footing.abandoned:
                self._bury(db, footing.abandoned)
                decide = self._deciding(db, intent, policy)
            try:
                first = decide()
            except OverCap as refusal:
                return refusal  # not raised: what was found out about abandoned rows is to be committed
            entry, is_new = (self._begin(db, intent, footing.writer()), True) if first is None else (first, False)
            if intent.line is not None:
                lines.keep(db, intent.account, intent.line, entry)
            return entry, is_new

        begun = await _once_older_are_done(lambda: self._write(work))
        if isinstance(begun, OverCap):
            raise begun
        entry, is_new = begun
        if is_new:
            self._newest = (entry.number, entry.request_id)
        return begun

    async def check_place(self) -> None:
        # As `begin` does: a read may see less than this server was told.
        await self._write_in_background(lambda db: self._footing(db)())

    async def same_before(self, intent: Intent, policy: SpendingPolicy) -> EarlierMatches:
        def work(db: Database) -> EarlierMatches:
            duplicate = self._deciding(db, intent, policy)()
            return EarlierMatches(duplicate, listing.refused_before(db, intent, self._clock() - DAY_S))

        return await self._glance(work)

    async def accepted(self, request_id: str, task_id: str, other_ids: Sequence[str] = ()) -> Entry:
        def work(db: Database) -> Entry:
            db.lock(f"task {task_id}")
            is_known = rows.is_known(db, task_id)
            entry, changes = of_request(db, request_id), self._changes(db)
            if entry.task_id == task_id and entry.state not in {"unknown", "rejected"}:  # it is recorded again
                return entry
            if entry.task_id not in {None, task_id}:
                row: dict[str, Any] = {"operation": entry.operation, "state": "submitted"} | rows.cost_of(entry.cost)
                row |= {"task_id": task_id, "fingerprint": entry.fingerprint} | rows.words_of(entry)
                known = of_task(db, entry.account, task_id)
                return known or changes.insert(entry.account, row, entry.body, entry.sources)
            reason = f"the gateway answered with {task_id}, which is the task of another request"
            taken = changes.take(entry, task_id, is_known=is_known(), other_ids=other_ids)
            return taken or changes.move(entry, "unknown", reason=reason)

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
        words = {"gateway_message": gateway_message, "failure_code": code, "answer": answer}

        def work(db: Database) -> Entry:
            return self._changes(db).move(of_request(db, request_id), state, reason=reason, **words)

        return await self._write(work)

    async def restore(self, entry: Entry) -> None:
        def work(db: Database) -> None:
            if db.execute("SELECT 1 FROM videos WHERE request_id = ?", [entry.request_id]).fetchone() is None:
                row: dict[str, Any] = {"operation": entry.operation, "state": "unknown"} | rows.cost_of(entry.cost)
                row |= {name: getattr(entry, name) for name in ("fingerprint", "writer", "created_at")}
                row |= rows.words_of(entry)
                row["failure_reason"] = "the ledger was taken back to an earlier copy while this was being sent"
                self._changes(db).insert(entry.account, row, entry.body, entry.sources, entry.request_id)

        await self._write(work)

    async def is_sending(self, request_id: str) -> bool:
        with suppress(FileProblem):
            return request_id in [each[0] for each in await self._read(rows.sending)]
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
            is_said_not_to_have_run = entry.state == "rejected" and entry.settled_at is not None
            if entry.state != "unknown" and not (task_id and is_said_not_to_have_run):
                return None
            if task_id is None:
                return changes.did_not_run(entry, "settled: the gateway's log shows no such task")
            return changes.take(entry, task_id, is_known=rows.is_known(db, task_id)(), reason="settled by hand")

        return await self._write(work)

    async def seal_keys(self) -> list[bytes]:
        keys = await self._read(self._seal_keys)
        return [key for key, _ in keys] if self._is_fresh(keys) else await self._write(self._rotate_seal_keys)

    async def use_answer(self, answer_id: str, forget_after_s: float) -> bool:
        def work(db: Database) -> bool:
            now = self._clock()
            db.execute("DELETE FROM used_answers WHERE kept_until < ?", [now])
            sql = "INSERT INTO used_answers (answer_id, kept_until) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1"
            return bool(db.execute(sql, [answer_id, now + forget_after_s]).fetchall())

        return await self._write(work)

    # --- inside a transaction ---------------------------------------------------------------------

    def _begin(self, db: Database, intent: Intent, writer: str) -> Entry:
        for request_id in intent.settles:
            settled = rows.find(db, intent.account, request_id)
            if settled is not None and settled.state == "unknown":
                reason = "settled: whoever asked for it says that it did not run"
                self._changes(db).did_not_run(settled, reason)
        row: dict[str, Any] = {"operation": intent.operation, "state": "sending"} | rows.cost_of(intent.cost)
        row |= {"fingerprint": intent.fingerprint, "writer": writer} | rows.words_of(intent)
        row |= {"sent_fingerprint": intent.sent_fingerprint} if intent.sent_fingerprint else {}
        return self._changes(db).insert(intent.account, row, intent.body, intent.sources)

    @staticmethod
    def _seal_keys(db: Database) -> list[tuple[bytes, float]]:
        """The keys and when they were made, the newest first."""
        rows = db.execute("SELECT key, made_at FROM seal_keys ORDER BY number DESC")
        return [(bytes(key), float(made_at)) for key, made_at in rows]

    def _is_fresh(self, keys: list[tuple[bytes, float]]) -> bool:
        """Whether the newest key seals for a while yet. One of the future was made by a clock that was wrong."""
        return bool(keys) and abs(self._clock() - keys[0][1]) < SEAL_FOR_S

    def _rotate_seal_keys(self, db: Database) -> list[bytes]:
        """Make another key where the newest is old, and forget those that open nothing any more."""
        db.lock("seal keys")
        keys = self._seal_keys(db)
        if not self._is_fresh(keys):
            made = (secrets.token_bytes(_SEAL_KEY_BYTES), self._clock())
            db.execute("INSERT INTO seal_keys (key, made_at) VALUES (?, ?)", made)
            keys = [made, *keys]
        # A key has sealed until the next one was made.
        kept = [
            key
            for number, (key, _) in enumerate(keys)
            if number == 0 or self._clock() - keys[number - 1][1] < OPEN_FOR_S
        ]
        for key, _ in keys:
            if key not in kept:
                db.execute("DELETE FROM seal_keys WHERE key = ?", [key])
        return kept

    def _deciding(self, db: Database, intent: Intent, policy: SpendingPolicy) -> Callable[[], Entry | None]:
        """What gives the request of which `intent` is a duplicate, None for a new one, as the policy decides; what that
        needs is asked for now. It raises OverCap."""
        standing = listing.standing(db, intent, policy, self._clock())

        def decide() -> Entry | None:
            if intent.line is not None and (own := lines.in_the_way(db, intent.account, intent.line)) is not None:
                return own
            duplicate_of = policy.decide(intent.cost, standing())
            return None if duplicate_of is None else of_request(db, duplicate_of)

        return decide


async def _once_older_are_done(attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` returns, once no older release is in the middle of a POST. Raises OlderRelease in the end."""
    give_up_at = anyio.current_time() + _WAIT_FOR_OLDER_S
    while True:
        try:
            return await attempt()
        except OlderRelease:
            if anyio.current_time() > give_up_at:
                raise
            await anyio.sleep(_LOOK_EVERY_S)
