"""Writes of an entry, inside a transaction."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from sora_mcp.core.accounts import Account
from sora_mcp.core.records import Entry
from sora_mcp.core.states import may_move
from sora_mcp.core.tasks import FINAL, UNDER_WAY, State, Task
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.rows import (
    GENERATION_FIELDS,
    NO_VARIANTS,
    Variants,
    account_columns,
    find_by_task,
    placeholders,
    write_row,
)

_NO_FAILURE = {"failure_reason": None, "gateway_message": None, "failure_code": None}


class Changes(Struct, frozen=True):
    """Changes made in one transaction, at one moment (`now`, unix seconds)."""

    db: Database
    now: float

    def insert(
        self,
        account: Account,
        row: dict[str, Any],
        body: dict[str, Any],
        sources: Sequence[str],
        request_id: str | None = None,
    ) -> Entry:
        """Insert an entry, with a new id unless there is a `request_id`; `row` holds further columns."""
        request_id = request_id or f"req_{secrets.token_hex(12)}"
        row = row | {"request_id": request_id, "body": json.dumps(body), "sources": json.dumps(list(sources))}
        row = {"created_at": self.now} | account_columns(account) | row | {"updated_at": self.now}
        names, values = ", ".join(row), list(row.values())
        self._add_history(request_id, row["state"], row.get("task_id"), None)
        sql = f"INSERT INTO videos ({names}) VALUES ({placeholders(values)})"  # noqa: S608 - our own names
        return write_row(self.db, sql, values, request_id, NO_VARIANTS)

    def move(
        self,
        entry: Entry,
        state: State,
        *,
        task_id: str | None = None,
        reason: str | None = None,
        **extra: str | float | None,
    ) -> Entry:
        """Move an entry to `state` if that is allowed from its current one; `extra` holds further columns."""
        if not may_move(entry.state, state):
            return entry
        values: dict[str, str | float | None] = {
            "state": state,
            "task_id": task_id or entry.task_id,
            "failure_reason": reason,
            "gateway_state": None,  # this move is not the result of a poll
        }
        if state == "submitted":  # it runs: the earlier failure stays in its history
            values |= _NO_FAILURE
        values |= {"updated_at": self.now, **extra}
        columns = ", ".join(f"{name} = ?" for name in values)
        sql = f"UPDATE videos SET {columns} WHERE request_id = ?"  # noqa: S608 - our own names
        self._add_history(entry.request_id, state, task_id, reason)
        return write_row(self.db, sql, [*values.values(), entry.request_id], entry.request_id, _variants(entry))

    def mark_not_run(self, entry: Entry, reason: str) -> Entry:
        """Record a person's word that a request of unknown outcome did not run; a task that turns up corrects it."""
        return self.move(entry, "rejected", reason=reason, settled_at=self.now)

    def assign_task(
        self,
        entry: Entry,
        task_id: str,
        *,
        is_known: bool,
        reason: str | None = None,
        other_ids: Sequence[str] = (),
    ) -> Entry | None:
        """Assign a task to the entry that created it. Returns None if it belongs to another request.

        If a query has adopted the task before that was known, clients that wait for the adopted entry get `entry` from
        now on. `is_known`: whether a row has this task.
        """
        adopted = find_by_task(self.db, entry.account, task_id) if is_known else None
        if adopted is not None and adopted.number == entry.number:
            adopted = None
        if adopted is not None and adopted.fingerprint is not None:
            return None
        if adopted is not None:
            entry = self._merge(adopted, entry)
        extra = {"other_ids": json.dumps(list(other_ids))}
        assigned = self.move(entry, "submitted", task_id=task_id, reason=reason, **extra)
        return assigned if adopted is None else self.update(assigned, _as_task(adopted), None)

    def update(self, entry: Entry, task: Task, quiet_s: float | None = 0) -> Entry:
        """Record what the gateway said of an entry's task. See Ledger.record."""
        state = task.state if may_move(entry.state, task.state) else entry.state
        if state != entry.state:
            self._add_history(entry.request_id, state, None, task.failure_reason)
        elif task.progress not in {None, entry.progress}:
            self.db.notify(entry.request_id)
        gateway_state = task.gateway_state if state == task.state else entry.gateway_state  # of the poll that decided
        now = self.now
        has_not_failed = state == "succeeded" or state in UNDER_WAY  # clears an earlier failure
        stated = task.cost if task.state in FINAL and task.cost is not None and not task.cost.is_relative else None
        cost = (None, None) if stated is None else (stated.billionths, stated.unit)
        self._save_variants(entry.request_id, task)
        return write_row(
            self.db,
            "UPDATE videos SET state = ?, progress = coalesce(?, progress), updated_at = ?, looked_at = ?,"
            " not_before = coalesce(?, not_before), misses = CASE WHEN ? THEN 0 ELSE misses END,"
            " gateway_state = ?, enhanced_prompt = coalesce(?, enhanced_prompt),"
            " failure_reason = CASE WHEN ? THEN NULL ELSE coalesce(?, failure_reason) END,"
            " gateway_message = CASE WHEN ? THEN NULL ELSE coalesce(?, gateway_message) END,"
            " failure_code = coalesce(?, CASE WHEN ? THEN NULL ELSE failure_code END),"
            " withheld = coalesce(?, withheld),"
            " stated = coalesce(?, stated), stated_currency = coalesce(?, stated_currency) WHERE request_id = ?",
            (
                *(state, task.progress, now, now, None if quiet_s is None else now + quiet_s, quiet_s is not None),
                *(gateway_state or None, task.enhanced_prompt, has_not_failed, task.failure_reason),
                *(has_not_failed, task.gateway_message, task.failure_code, has_not_failed, task.withheld),
                *(*cost, entry.request_id),
            ),
            entry.request_id,
            None if task.generations else _variants(entry),
        )

    def _save_variants(self, request_id: str, task: Task) -> None:
        """Update the variants of a row; what a reply leaves out stays."""
        names, others = ", ".join(GENERATION_FIELDS), [name for name in GENERATION_FIELDS if name != "variant"]
        updates = ", ".join(f"{name} = coalesce(excluded.{name}, generations.{name})" for name in others)
        for generation in task.generations:
            self.db.execute(
                f"INSERT INTO generations (request_id, {names}) VALUES (?, {placeholders(GENERATION_FIELDS)})"  # noqa: S608 - our own names
                f" ON CONFLICT (request_id, variant) DO UPDATE SET {updates}",
                (request_id, *asdict(generation).values()),
            )

    def _merge(self, adopted: Entry, entry: Entry) -> Entry:
        ids = (entry.request_id, adopted.request_id)
        self.db.execute("UPDATE generations SET request_id = ? WHERE request_id = ?", ids)
        self.db.execute("UPDATE videos SET task_id = NULL, merged_into = ? WHERE request_id = ?", ids)
        self._add_history(adopted.request_id, adopted.state, None, f"merged into {entry.request_id}")
        return replace(entry, generations=adopted.generations, files=adopted.files)

    def _add_history(self, request_id: str, state: State, task_id: str | None, reason: str | None) -> None:
        sql = "INSERT INTO history (request_id, at, state, task_id, reason) VALUES (?, ?, ?, ?, ?)"
        self.db.execute(f"{sql}{self.db.notify_clause}", (request_id, self.now, state, task_id, reason))


def _variants(entry: Entry) -> Variants:
    return entry.generations, entry.files


def _as_task(entry: Entry) -> Task:
    """Return what is recorded of an entry's task."""
    return Task(
        entry.state,
        progress=entry.progress,
        gateway_state=entry.gateway_state or "",
        enhanced_prompt=entry.enhanced_prompt,
        failure_reason=entry.failure_reason,
        failure_code=entry.failure_code,
        gateway_message=entry.gateway_message,
        cost=entry.stated,
    )
