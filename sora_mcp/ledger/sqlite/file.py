"""The ledger's SQLite file: creates, migrates, reads and writes it, and describes its errors in our words."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar, cast

from sora_mcp.core.advice import AskUser, LocalText, Restart, Setting, TryAgain
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.sql import rows
from sora_mcp.ledger.sql.transactions import BUSY_TIMEOUT_S, QUEUE_TIMEOUT_S, LedgerBusy, OlderRelease
from sora_mcp.ledger.sqlite import migrations
from sora_mcp.ledger.sqlite.connection import Connection
from sora_mcp.ledger.sqlite.integrity import (
    REMOVED_OR_REPLACED,
    ChangedBy,
    Damaged,
    Malformed,
    Watch,
    check_before_opening,
    database_files,
    identity,
    ledger_exists,
    sqlite_code,
)

T = TypeVar("T")

CACHE_SIZE = 256
"""Reads that are cached for as long as the file does not change."""


Work = Callable[[Connection], T]


class File:
    """The file at `path`, opened or created at first use.

    Once it is removed or replaced, nothing is read or written until it is back: what is recorded in a file that cannot
    be found again is lost.
    """

    def __init__(
        self,
        path: Path,
        may_migrate: Callable[[Connection], bool] = lambda _: True,
        may_quick_read: Callable[[Connection], bool] = lambda _: True,
    ) -> None:
        self.path = path
        self._may_migrate = may_migrate
        self._may_quick_read = may_quick_read
        self._is_migrated = False
        self._reads_older = False
        """Whether the reader still treats the file as one of an older release."""
        self._connection: Connection | None = None
        self._reader: Connection | None = None
        self._watch: Watch | None = None
        self._newest_change = 0
        """Number of the newest change of a state as of the last write here."""
        self._timeout_s: float | None = None
        """The busy time-out of the connection, once it was set."""
        self._cache: dict[Hashable, object] = {}
        self._cache_version = -1
        self.paths = database_files(path)
        """The file, and SQLite's files beside it."""

    def close(self) -> None:
        """Close the file."""
        connections = [each for each in (self._reader, self._connection) if each is not None]
        watch, self._reader, self._connection, self._watch = self._watch, None, None, None
        if watch is not None:
            watch.end(connections)
        self._is_migrated = False
        self._newest_change = 0
        self._timeout_s = None
        self._cache_version = -1

    def exists(self) -> bool:
        """Return whether anything was ever recorded here."""
        return self._connection is not None or ledger_exists(self.path)

    def transact(self, begin: str, work: Work[T], timeout_s: float = BUSY_TIMEOUT_S) -> T:
        """Return what `work` returns, run in one transaction. Raises FileProblem, and nothing is written then.

        If another process locks the file for longer than `timeout_s`, that is a LedgerBusy. If `timeout_s` is
        BUSY_TIMEOUT_S and others lock the file one after another, it may take QUEUE_TIMEOUT_S.
        """
        try:
            db, watch = self._open()
            if begin == "BEGIN" or not self._is_migrated:
                watch.check()  # `_write` checks by itself
            if timeout_s != self._timeout_s:
                db.execute(f"PRAGMA busy_timeout = {timeout_s * 1000:.0f}")
                self._timeout_s = timeout_s
            self._migrate_if_needed(db, to_write=begin != "BEGIN")
            if begin == "BEGIN":
                with transaction(db, begin):
                    result = work(db)
            else:
                result = self._write(db, watch, begin, work)
        except (sqlite3.Error, OSError) as error:
            is_refused = sqlite_code(error) == sqlite3.SQLITE_CONSTRAINT and self._connection is not None
            if is_refused and migrations.is_copied(db):
                from sora_mcp.ledger.sqlite.copy_mark import Copied  # noqa: PLC0415 - for few ledgers

                raise Copied(self.path, db) from None
            raise problem_from(self.path, error) from error
        return result

    def quick_read(self, work: Work[T], key: Hashable = None) -> T:
        """Read without waiting. Raises sqlite3.Error or OSError if anything is in the way.

        What was read under a `key` is cached until the file changes.
        """
        if self._reader is None or self._watch is None:
            raise sqlite3.OperationalError("not open yet")
        self._watch.check()
        if self._reads_older and self._is_migrated:
            migrations.drop_compatibility_views(self._reader)
            self._reads_older = False
        version = _version(self._reader)
        if version != self._cache_version or len(self._cache) > CACHE_SIZE:
            self._cache, self._cache_version = {}, version
        if key is not None and key in self._cache:
            return cast("T", self._cache[key])
        with transaction(self._reader, "BEGIN") as db:
            if not self._may_quick_read(db):
                raise sqlite3.OperationalError("something has to be looked after first")
            read = work(db)
        if key is not None:
            self._cache[key] = read
        return read

    def _open(self) -> tuple[Connection, Watch]:
        if self._connection is None or self._watch is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            was_in_use = check_before_opening(self.path)
            with suppress(FileExistsError):
                self.path.touch(mode=0o600, exist_ok=False)
            before = identity(self.path)
            with ExitStack() as on_failure:
                connection, watch = open_file(self.path), Watch(self.path)
                on_failure.callback(watch.end, [connection])
                if was_in_use and not migrations.version(connection):
                    raise Damaged(self.path, "it was emptied: the folder writers beside it shows that it was in use")
                self._is_migrated = migrations.migrate(connection, transaction, self._may_migrate)
                reader = on_failure.enter_context(closing(open_to_read(self.path)))
                self._reads_older = not self._is_migrated
                if self._reads_older:
                    migrations.create_compatibility_views(connection)
                    migrations.create_compatibility_views(reader)
                connection.execute("SELECT count(*) FROM salt").fetchone()  # now its companion files exist as well
                watch.begin(before)  # if it was replaced in this moment, the next use opens it again
                self._connection, self._reader, self._watch = connection, reader, watch
                on_failure.pop_all()
        return self._connection, self._watch

    def _write(self, db: Connection, watch: Watch, begin: str, work: Work[T]) -> T:
        changed_by = watch.poll()
        if changed_by is ChangedBy.OTHERS:
            self._drop_memory(db, watch)
        with transaction(db, begin, queue_timeout_s=QUEUE_TIMEOUT_S if self._timeout_s == BUSY_TIMEOUT_S else 0):
            if changed_by is not ChangedBy.NOBODY and rows.newest_change(db) < self._newest_change:
                raise Damaged(self.path, REMOVED_OR_REPLACED)  # an older copy was written into the same file
            result = work(db)
            newest_change = rows.newest_change(db)
            watch.check()
        self._newest_change = newest_change
        watch.accept_changes()
        return result

    def _drop_memory(self, db: Connection, watch: Watch) -> None:
        """Drop SQLite's memory of files that others have written to. Raises Damaged if they have corrupted them."""
        with transaction(db, "BEGIN IMMEDIATE"):
            watch.check_content()
        for each in (db, self._reader):
            if each is not None:
                each.execute("PRAGMA shrink_memory")
        watch.accept_changes()

    def _migrate_if_needed(self, db: Connection, *, to_write: bool) -> None:
        """Migrate a file that could not be migrated when it was opened. Raises OlderRelease if that has to wait."""
        if self._is_migrated:
            return
        if to_write and not migrations.migrate(db, transaction, self._may_migrate):
            raise OlderRelease
        if migrations.is_current(db):
            migrations.drop_compatibility_views(db)
            self._is_migrated = True


@contextmanager
def transaction(db: Connection, begin: str, *, queue_timeout_s: float = 0) -> Iterator[Connection]:
    """Run a transaction. While others lock the file one after another, BEGIN is retried for `queue_timeout_s` seconds:
    SQLite has no queue."""
    if queue_timeout_s:
        _begin_in_queue(db, begin, time.monotonic() + queue_timeout_s)
    else:
        db.execute(begin)
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _begin_in_queue(db: Connection, begin: str, deadline: float) -> None:
    version = _version(db)
    while True:
        try:
            db.execute(begin)
        except sqlite3.OperationalError as error:
            before, version = version, _version(db)
            if sqlite_code(error) not in _BUSY_CODES or version == before or time.monotonic() > deadline:
                raise
        else:
            return


def _version(db: Connection) -> int:
    """Return a number that changes when others have written to the file."""
    version: int = db.execute("PRAGMA data_version").fetchone()[0]
    return version


def open_file(path: Path) -> Connection:
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, factory=Connection
    )
    try:
        _enable_wal(db)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA temp_store = MEMORY")  # no file is opened in the middle of a record
    except BaseException:
        db.close()
        raise
    return db


def open_to_read(path: Path) -> Connection:
    """Return a second connection to a file that `open_file` has opened; it writes nothing and never waits."""
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, factory=Connection)


def _enable_wal(db: Connection) -> None:
    """Switch to WAL mode. That is the one statement that SQLite's busy time-out does not cover: of several processes
    that open a new file at once, all but one get the error that it is locked."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if sqlite_code(error) not in _BUSY_CODES or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def problem_from(path: Path, error: Exception) -> FileProblem:
    """Return the FileProblem for a file that cannot be used."""
    reason, code = reason_for(error), sqlite_code(error)
    if isinstance(error, Malformed) or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return Damaged(path, reason)
    if code in _BUSY_CODES:
        return busy_error(path)
    message = _unusable_message(path, reason)
    if isinstance(error, migrations.NewerSchema):
        return FileProblem(message, AskUser((Restart(), " with the newer version")))
    return FileProblem(
        message, AskUser(("check that folder (setting ", Setting("home"), "): it must be writable, with free space"))
    )


def busy_error(path: Path) -> LedgerBusy:
    """Return the error for a file that another process has locked."""
    message = _unusable_message(path, _SQLITE_REASONS[sqlite3.SQLITE_BUSY])
    return LedgerBusy(message, TryAgain(), AskUser("end whatever holds it if that does not help"))


def _unusable_message(path: Path, reason: str) -> tuple[str, LocalText, str]:
    return "The ledger", LocalText(f" {path}", ""), f" cannot be used ({reason})."


_BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

_SQLITE_REASONS: dict[int | None, str] = {
    sqlite3.SQLITE_BUSY: "another process has locked it",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_PERM: "no permission",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is not a ledger",
}
_OS_REASONS: dict[int | None, str] = {
    errno.EROFS: "it is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}


def reason_for(error: Exception) -> str:
    """Return our words for an error of the file system or SQLite; their own could say anything."""
    if isinstance(error, migrations.NewerSchema):
        return "it was made by a newer version"
    if isinstance(error, Malformed):
        return "it is damaged"
    known = _OS_REASONS.get(error.errno) if isinstance(error, OSError) else _SQLITE_REASONS.get(sqlite_code(error))
    return known or "it cannot be opened or written"
