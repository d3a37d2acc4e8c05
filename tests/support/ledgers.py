"""Every kind of ledger, and the entries of tests; another store is one more entry in STORES."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg

from sora_mcp.core.cost import Cost
from sora_mcp.ledger import Account, Entry, Intent, Ledger, SpendingPolicy, open_ledger

G = Account("g")
"""The account of most tests."""

GUARDED = SpendingPolicy(duplicate_window_s=600)
"""A policy with nothing but a duplicate window."""

BODY = {"prompt": "fly man", "width": 854, "height": 480, "n_frames": 150}

BEFORE_TOTALS_WERE_KEPT = """
    DROP TRIGGER videos_added;
    DROP TRIGGER videos_changed;
    DROP TRIGGER videos_removed;
    DROP TABLE video_counts;
    PRAGMA user_version = 9;
"""
"""Takes a file back to the schema without stored totals."""

FIRST_SCHEMA = """
    CREATE TABLE videos (
        number INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, gateway TEXT NOT NULL, task_id TEXT,
        operation TEXT, state TEXT NOT NULL, body TEXT NOT NULL, sources TEXT NOT NULL, cost REAL,
        progress INTEGER, enhanced_prompt TEXT, failure_reason TEXT, created_at REAL NOT NULL, updated_at REAL NOT NULL
    );
    CREATE INDEX videos_task ON videos (gateway, task_id) WHERE task_id IS NOT NULL;
    CREATE INDEX videos_newest ON videos (gateway, number);
    CREATE INDEX videos_state ON videos (gateway, state, number);
    CREATE TABLE generations (
        request_id TEXT NOT NULL REFERENCES videos (request_id), variant INTEGER NOT NULL, generation_id TEXT, url TEXT,
        width INTEGER, height INTEGER, n_frames INTEGER, file TEXT, PRIMARY KEY (request_id, variant)
    ) WITHOUT ROWID;
    CREATE INDEX generations_id ON generations (generation_id);
    CREATE TABLE salt (value BLOB NOT NULL);
    INSERT INTO salt VALUES (x'0102');
    INSERT INTO videos VALUES (1, 'req_1', 'https://g.example#0123456789abcdef@ann', 'task_1', 'simple_compose',
        'running', '{"prompt": "fox"}', '[]', 1.25, 40, NULL, NULL, 1000.0, 1000.0);
    PRAGMA user_version = 1;
"""
"""The tables of the first files, and a video in them."""

Clock = Callable[[], float]
OpenLedger = Callable[..., Ledger]

STORES = ("sqlite", "postgres")
"""Every kind of ledger; all of them have the same contract."""


class Store:
    """One ledger, empty at first: in a file below `folder`, or in its own database."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self._file = folder / "home" / "ledger.sqlite3"
        self._url = url

    @property
    def environ(self) -> dict[str, str]:
        """Settings, named without SORA_, for a process with its home below `folder`."""
        return {} if self._url is None else {"LEDGER_URL": self._url}

    @property
    def values(self) -> dict[str, str]:
        """The same, as arguments of `load`."""
        return {} if self._url is None else {"ledger_url": self._url}

    def open(self, clock: Clock) -> Ledger:
        """Another connection to the same record."""
        if self._url is None:
            return open_ledger(self._file, clock)
        from sora_mcp.ledger.postgres.engine import PostgresLedger  # noqa: PLC0415 - not every machine has it

        return PostgresLedger(self._url, clock)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement from outside, and return its rows."""
        if self._url is None:
            with closing(sqlite3.connect(f"{self._file.as_uri()}?mode=rw", uri=True)) as file, file:
                return file.execute(sql).fetchall()
        with psycopg.connect(self._url, autocommit=True) as database:
            cursor = database.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The same; no rows if the tables do not exist yet."""
        with suppress(sqlite3.OperationalError, psycopg.errors.UndefinedTable):
            return self.query(sql)
        return []


def in_file(folder: Path) -> Store:
    """A ledger in SQLite."""
    return Store(folder, None)


async def begin(ledger: Ledger, account: Account = G) -> str:
    entry, is_new = await ledger.begin(Intent(account, "simple_compose", BODY, "same", [], Cost.of(1.25)))
    assert is_new
    return entry.request_id


async def row(ledger: Ledger, request_id: str) -> Entry:
    found = await ledger.find(G, request_id)
    assert found is not None
    return found
