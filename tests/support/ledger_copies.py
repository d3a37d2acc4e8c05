"""A ledger file with an example of everything, and the contents of a ledger's tables."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from sora_mcp.core.batches import BatchLine
from sora_mcp.core.cost import Cost
from sora_mcp.core.tasks import Generation, Task
from sora_mcp.ledger import Account, Intent, open_ledger

GATEWAY, KEY = "https://api.example.com", "sk-0123456789"
TABLES = {
    "videos": "number",
    "generations": "request_id, variant",
    "history": "number",
    "batch_lines": "number",
    "seal_keys": "number",
    "used_answers": "answer_id",
    "salt": "value",
}
_TEXT = 'fox\t"🦊"\\n\n\\.\r é %s'

Rows = dict[str, list[tuple[Any, ...]]]


def intent(account: Account, number: int, **more: Any) -> Intent:
    """An intent; each number is a different request."""
    prompt = f"{number} {_TEXT}"
    return Intent(account, "simple_compose", {"prompt": prompt}, f"same {number}", [], Cost.of(0.1 * number), **more)


async def fill(path: Path, videos: int = 12) -> Account:
    """Create such a ledger with at least this many videos."""
    with closing(open_ledger(path)) as ledger:
        account = await ledger.account(GATEWAY, KEY, "ann")
        await ledger.seal_keys()
        await ledger.use_answer("answer", 600)
        for number in range(videos):
            line = BatchLine("film.jsonl", f"line {number} {_TEXT}", "digest") if number % 3 == 0 else None
            entry, _ = await ledger.begin(intent(account, number, line=line))
            if number % 4 == 1:
                await ledger.record_not_accepted(entry.request_id, "unknown", _TEXT, answer=_TEXT)
                continue
            entry = await ledger.record_accepted(entry.request_id, f"task_{number}", ["gen_x"])
            generations = [
                Generation(variant=1, generation_id=f"gen_{number}", url=f"https://x.example/{number}", fps=29.97)
            ]
            await ledger.record(
                entry, Task("succeeded", progress=100, generations=tuple(generations), cost=Cost.of(7, "USD"))
            )
            await ledger.record_saved(entry.request_id, 1, Path(f"/videos/{number} é.mp4"))
        await ledger.adopt(account, "task_elsewhere", Task("running"))
    return account


def multiply(path: Path, times: int) -> None:
    """Add this many copies of the first video, each with a history and a variant."""
    with closing(sqlite3.connect(path)) as db, db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(videos)")]
        own = {"number": "1000 + i", "request_id": "printf('req_%024x', i)", "task_id": "'task_n' || i"}
        values = ", ".join(own.get(column, column) for column in columns)
        db.execute(
            f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {times:d})"  # noqa: S608
            f" INSERT INTO videos ({', '.join(columns)}) SELECT {values} FROM videos, n WHERE number = 1"
        )
        copies = "SELECT request_id, {} FROM videos WHERE number > 1000"
        db.execute(f"INSERT INTO history (request_id, at, state) {copies.format('created_at, state')}")
        db.execute(f"INSERT INTO generations (request_id, variant, url) {copies.format('1, task_id')}")


def in_file(path: Path) -> Rows:
    """Every column of every row."""
    with closing(sqlite3.connect(path)) as db:
        return {table: db.execute(_select(path, table)).fetchall() for table in TABLES}


def in_database(url: str, path: Path) -> Rows:
    """The same columns in PostgreSQL; no rows if it has no tables."""
    with psycopg.connect(url) as db:
        if db.execute("SELECT to_regclass('videos')").fetchone() == (None,):
            return {table: [] for table in TABLES}
        return {table: db.execute(_select(path, table).encode()).fetchall() for table in TABLES}


def _select(path: Path, table: str) -> str:
    with closing(sqlite3.connect(path)) as db:
        columns = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
    return f"SELECT {columns} FROM {table} ORDER BY {TABLES[table]}"  # noqa: S608 - our own names
