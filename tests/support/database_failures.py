"""Failures of a ledger's PostgreSQL database, caused by its owner, another server or a disk; each is temporary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from urllib.parse import urlsplit

import psycopg
from ledgers import Store

DatabaseFailure = Callable[[Store], AbstractContextManager[object]]
"""Takes a ledger in PostgreSQL; the failure ends with the context."""

_END_CONNECTIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid != pg_backend_pid()"
)
_TABLES = ("videos", "history", "generations", "batch_lines", "seal_keys", "used_answers")
_DISK_FULL = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: no space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON videos EXECUTE FUNCTION no_room();
"""


def _run_outside(store: Store, *statements: str) -> None:
    """Run statements in another database of the same PostgreSQL; `{name}` is that of the ledger's."""
    url = store.values["ledger_url"]
    name = urlsplit(url).path[1:]
    with psycopg.connect(url.removesuffix(name) + "postgres", autocommit=True) as database:
        for statement in statements:
            database.execute(statement.format(name=name).encode())


def _database_altered(begin: str, end: str) -> DatabaseFailure:
    """Alter the database; its connections are closed so that the change takes effect."""

    @contextmanager
    def failure(store: Store) -> Iterator[None]:
        _run_outside(store, begin, _END_CONNECTIONS)
        yield
        _run_outside(store, end, _END_CONNECTIONS)

    return failure


def _statements(begin: str, end: str) -> DatabaseFailure:
    """Run statements in the database."""

    @contextmanager
    def failure(store: Store) -> Iterator[None]:
        store.query(begin)
        yield
        store.query(end)

    return failure


@contextmanager
def _locked(store: Store) -> Iterator[None]:
    """Another connection holds a lock in its transaction."""
    with psycopg.connect(store.values["ledger_url"]) as holder:
        holder.execute("LOCK TABLE videos")
        yield


@contextmanager
def _cut_off(store: Store) -> Iterator[None]:
    """Close its connections, once."""
    _run_outside(store, _END_CONNECTIONS)
    yield


@contextmanager
def _older(store: Store) -> Iterator[None]:
    """Replace the rows by those of an earlier time."""
    store.query("; ".join(f"CREATE TABLE kept_{each} AS TABLE {each}; DELETE FROM {each}" for each in _TABLES))  # noqa: S608 - our own names
    yield
    store.query("; ".join(_put_back(each) for each in _TABLES))


def _put_back(table: str) -> str:
    overriding = "" if table in {"generations", "used_answers"} else " OVERRIDING SYSTEM VALUE"
    return f"INSERT INTO {table}{overriding} TABLE kept_{table} ON CONFLICT DO NOTHING; DROP TABLE kept_{table}"


DATABASE_FAILURES: dict[str, DatabaseFailure] = {
    "cut off for a moment": _cut_off,
    "away": _database_altered(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false", "ALTER DATABASE {name} ALLOW_CONNECTIONS true"
    ),
    "read-only": _database_altered(
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "ALTER DATABASE {name} RESET default_transaction_read_only",
    ),
    "full": _statements(_DISK_FULL, "DROP FUNCTION no_room CASCADE"),
    "held by another process": _locked,
    "its tables removed": _statements(
        "ALTER TABLE videos RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO videos"
    ),
    "an older copy": _older,
    "migrated by a newer release": _statements(
        "UPDATE ledger_schema SET version = version + 98, oldest = oldest + 99",
        "UPDATE ledger_schema SET version = version - 98, oldest = oldest - 99",
    ),
    "migrated by one that this one works beside": _statements(
        "UPDATE ledger_schema SET version = version + 1", "UPDATE ledger_schema SET version = version - 1"
    ),
}
