"""Troubles of a ledger's database in PostgreSQL, as its owner, another server or a disk makes them; each has an end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from urllib.parse import urlsplit

import psycopg
from ledgers import Store

DatabaseFailure = Callable[[Store], AbstractContextManager[object]]
"""Takes a ledger in PostgreSQL; the trouble is over at the end."""

_END_CONNECTIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid != pg_backend_pid()"
)
_TABLES = ("videos", "history", "generations", "batch_lines", "seal_keys", "used_answers")
_NO_ROOM = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: no space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON videos EXECUTE FUNCTION no_room();
"""


def _outside(store: Store, *statements: str) -> None:
    """Run statements in another database of the same PostgreSQL; `{name}` is that of the ledger's."""
    url = store.values["ledger_url"]
    name = urlsplit(url).path[1:]
    with psycopg.connect(url.removesuffix(name) + "postgres", autocommit=True) as database:
        for statement in statements:
            database.execute(statement.format(name=name).encode())


def _changed(begin: str, end: str) -> DatabaseFailure:
    """Statements about the database; its connections are ended so that they count."""

    @contextmanager
    def trouble(store: Store) -> Iterator[None]:
        _outside(store, begin, _END_CONNECTIONS)
        yield
        _outside(store, end, _END_CONNECTIONS)

    return trouble


def _within(begin: str, end: str) -> DatabaseFailure:
    """Statements in the database."""

    @contextmanager
    def trouble(store: Store) -> Iterator[None]:
        store.query(begin)
        yield
        store.query(end)

    return trouble


def _held(statement: str) -> DatabaseFailure:
    """Somebody holds something in a transaction of their own."""

    @contextmanager
    def trouble(store: Store) -> Iterator[None]:
        with psycopg.connect(store.values["ledger_url"]) as holder:
            holder.execute(statement.encode())
            yield

    return trouble


@contextmanager
def _cut_off(store: Store) -> Iterator[None]:
    """Its connections are ended, once."""
    _outside(store, _END_CONNECTIONS)
    yield


@contextmanager
def _older(store: Store) -> Iterator[None]:
    """The rows are those of an earlier time."""
    store.query("; ".join(f"CREATE TABLE kept_{each} AS TABLE {each}; DELETE FROM {each}" for each in _TABLES))  # noqa: S608 - our own names
    yield
    store.query("; ".join(_put_back(each) for each in _TABLES))


def _put_back(table: str) -> str:
    overriding = "" if table in {"generations", "used_answers"} else " OVERRIDING SYSTEM VALUE"
    return f"INSERT INTO {table}{overriding} TABLE kept_{table} ON CONFLICT DO NOTHING; DROP TABLE kept_{table}"


DATABASE_FAILURES: dict[str, DatabaseFailure] = {
    "cut off for a moment": _cut_off,
    "away": _changed("ALTER DATABASE {name} ALLOW_CONNECTIONS false", "ALTER DATABASE {name} ALLOW_CONNECTIONS true"),
    "read-only": _changed(
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "ALTER DATABASE {name} RESET default_transaction_read_only",
    ),
    "full": _within(_NO_ROOM, "DROP FUNCTION no_room CASCADE"),
    "held by another process": _held("LOCK TABLE videos"),
    "its tables removed": _within("ALTER TABLE videos RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO videos"),
    "an older copy": _older,
    "migrated by a newer release": _within(
        "UPDATE ledger_schema SET version = version + 98, oldest = oldest + 99",
        "UPDATE ledger_schema SET version = version - 98, oldest = oldest - 99",
    ),
    "migrated by one that this one works beside": _within(
        "UPDATE ledger_schema SET version = version + 1", "UPDATE ledger_schema SET version = version - 1"
    ),
}
