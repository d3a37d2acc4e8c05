"""Ledger methods for running tasks and finished videos, documented in `Ledger`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

from sora_mcp.core.accounts import Account
from sora_mcp.core.records import Entry
from sora_mcp.core.tasks import Task
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.leases import lease
from sora_mcp.ledger.sql.rows import find_by_task, get_by_request
from sora_mcp.ledger.sql.transactions import SHORT_TIMEOUT_S, Transactions


class Following(Transactions):
    """Tasks and files."""

    async def adopt(self, account: Account, task_id: str, task: Task, dialect: str | None = None) -> Entry:
        body = task.body or {}
        row: dict[str, Any] = {"task_id": task_id, "operation": body.get("operation"), "state": "submitted"}
        row["dialect"] = dialect
        if task.created_at is not None:
            row["created_at"] = task.created_at

        def work(db: Database) -> Entry:
            db.lock(f"task {task_id}")
            changes = self._changes(db)
            entry = find_by_task(db, account, task_id) or changes.insert(account, row, body, [])
            return changes.update(entry, task)

        return await self._write(work)

    def lease(
        self, request_id: str, pause_s: float = 0, *, expected: Entry | None = None
    ) -> AbstractAsyncContextManager[bool]:
        write = partial(self._write_in_background, timeout_s=SHORT_TIMEOUT_S)
        return lease(write, self._clock, request_id, pause_s, expected)

    async def record(self, entry: Entry, task: Task, quiet_s: float | None = 0) -> Entry:
        def work(db: Database) -> Entry:
            current = get_by_request(db, entry.request_id)
            if current.task_id != entry.task_id and entry.task_id is not None:
                current = find_by_task(db, entry.account, entry.task_id) or current
            if current.task_id is None:
                return current
            if current.missed_since is not None and task.state != "lost":
                db.execute("UPDATE videos SET missed_since = NULL WHERE request_id = ?", [current.request_id])
            return self._changes(db).update(current, task, quiet_s)

        return await self._write_in_background(work)

    async def record_missing(self, entry: Entry) -> Entry:
        def work(db: Database) -> Entry:
            sql = "UPDATE videos SET missed_since = coalesce(missed_since, ?) WHERE request_id = ?"
            db.execute(sql, [self._clock(), entry.request_id])
            return get_by_request(db, entry.request_id)

        return await self._write_in_background(work)

    async def record_saved(self, request_id: str, variant: int, file: Path) -> None:
        if not _is_unicode(file):  # the file is found by its name
            return
        sql = "UPDATE generations SET file = ? WHERE request_id = ? AND variant = ?"
        await self._write_in_background(lambda db: db.execute(sql, (_stored_path(db, file), request_id, variant)))

    async def is_file_of_another(self, request_id: str, file: Path) -> bool:
        if not _is_unicode(file):
            return False
        sql = "SELECT 1 FROM generations WHERE file IN (?, ?) AND request_id != ? LIMIT 1"
        return await self._read(
            lambda db: db.execute(sql, (str(file), _stored_path(db, file), request_id)).fetchone() is not None
        )


def _stored_path(db: Database, file: Path) -> str:
    """Return the recorded form of a path: relative to the folder of videos, which each server may mount elsewhere."""
    is_in_folder = db.folder != Path() and file.is_relative_to(db.folder)
    return file.relative_to(db.folder).as_posix() if is_in_folder else str(file)


def _is_unicode(file: Path) -> bool:
    """Return whether a path is Unicode text: on Linux it is bytes, perhaps in another encoding, and tables hold
    text."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return False
    return True
