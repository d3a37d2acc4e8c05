"""The ledger's SQLite file: made, brought up to date, read and written, and its troubles in our words."""

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
from sora_mcp.ledger.sql.transactions import BUSY_S, LINE_S, Held, OlderRelease
from sora_mcp.ledger.sqlite import migrations
from sora_mcp.ledger.sqlite.connection import Connection
from sora_mcp.ledger.sqlite.integrity import (
    TAKEN_AWAY,
    Changed,
    Damaged,
    Malformed,
    Watch,
    beside,
    code_of,
    identity,
    is_there,
    look_before_opening,
)

T = TypeVar("T")

KEPT_MOST = 256
"""Reads that are kept for as long as the file does not change."""


Work = Callable[[Connection], T]


class File:
    """The file at `path`: opened, and made, at first use.

    Once it is removed, or another is put in its place, nothing is read or written until it is back: what is recorded
    in a file that nobody finds again is forgotten.
    """

    def __init__(
        self,
        path: Path,
        may_migrate: Callable[[Connection], bool] = lambda _: True,
        may_glance: Callable[[Connection], bool] = lambda _: True,
    ) -> None:
        self.path = path
        self._may_migrate = may_migrate
        self._may_glance = may_glance
        self._is_migrated = False
        self._reads_older = False
        """Whether the reader still takes the file for one of an older release."""
        self._connection: Connection | None = None
        self._reader: Connection | None = None
        self._watch: Watch | None = None
        self._newest = 0
        """Number of the newest change of a state that was seen when something was written here."""
        self._patience_s: float | None = None
        """How long SQLite waits for another process that holds the file, once that was said."""
        self._kept: dict[Hashable, object] = {}
        self._kept_of = -1
        self.paths = beside(path)
        """The file, and those that SQLite keeps beside it."""

    def close(self) -> None:
        """Close it; what was recorded stays."""
        connections = [each for each in (self._reader, self._connection) if each is not None]
        watch, self._reader, self._connection, self._watch = self._watch, None, None, None
        if watch is not None:
            watch.end(connections)
        self._is_migrated = False
        self._newest = 0
        self._patience_s = None
        self._kept_of = -1

    def exists(self) -> bool:
        """Whether anything was ever recorded here."""
        return self._connection is not None or is_there(self.path)

    def transact(self, begin: str, work: Work[T], patience_s: float = BUSY_S) -> T:
        """What `work` returns, in one transaction. Raises FileProblem, and nothing is written then.

        Where another process holds the file for longer than `patience_s`, that is a Held. If that is BUSY_S, and others
        hold it one after another, it may take LINE_S.
        """
        try:
            db, watch = self._open()
            if begin == "BEGIN" or not self._is_migrated:
                watch.check()  # `_write` looks for itself
            if patience_s != self._patience_s:
                db.execute(f"PRAGMA busy_timeout = {patience_s * 1000:.0f}")
                self._patience_s = patience_s
            self._bring_up_to_date(db, to_write=begin != "BEGIN")
            if begin == "BEGIN":
                with transaction(db, begin):
                    done = work(db)
            else:
                done = self._write(db, watch, begin, work)
        except (sqlite3.Error, OSError) as error:
            is_refused = code_of(error) == sqlite3.SQLITE_CONSTRAINT and self._connection is not None
            if is_refused and migrations.is_copied(db):
                from sora_mcp.ledger.sqlite.copied import Copied  # noqa: PLC0415 - of few ledgers

                raise Copied(self.path, db) from None
            raise problem(self.path, error) from error
        return done

    def glance(self, work: Work[T], key: Hashable = None) -> T:
        """A read that waits for nobody. Raises sqlite3.Error or OSError where anything is in the way.

        What was read under a `key` is kept until the file changes.
        """
        if self._reader is None or self._watch is None:
            raise sqlite3.OperationalError("not open yet")
        self._watch.check()
        if self._reads_older and self._is_migrated:
            migrations.read_as_is(self._reader)
            self._reads_older = False
        version = _version(self._reader)
        if version != self._kept_of or len(self._kept) > KEPT_MOST:
            self._kept, self._kept_of = {}, version
        if key is not None and key in self._kept:
            return cast("T", self._kept[key])
        with transaction(self._reader, "BEGIN") as db:
            if not self._may_glance(db):
                raise sqlite3.OperationalError("something has to be looked after first")
            read = work(db)
        if key is not None:
            self._kept[key] = read
        return read

    def _open(self) -> tuple[Connection, Watch]:
        if self._connection is None or self._watch is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            was_used = look_before_opening(self.path)
            with suppress(FileExistsError):
                self.path.touch(mode=0o600, exist_ok=False)
            before = identity(self.path)
            with ExitStack() as if_it_fails:
                connection, watch = open_file(self.path), Watch(self.path)
                if_it_fails.callback(watch.end, [connection])
                if was_used and not migrations.version(connection):
                    raise Damaged(self.path, "it was emptied: the folder writers beside it shows that it was in use")
                self._is_migrated = migrations.migrate(connection, transaction, self._may_migrate)
                reader = if_it_fails.enter_context(closing(open_to_read(self.path)))
                self._reads_older = not self._is_migrated
                if self._reads_older:
                    migrations.read_as_current(connection)
                    migrations.read_as_current(reader)
                connection.execute("SELECT count(*) FROM salt").fetchone()  # now its companions are there as well
                watch.begin(before)  # replaced in this moment: it is opened anew the next time
                self._connection, self._reader, self._watch = connection, reader, watch
                if_it_fails.pop_all()
        return self._connection, self._watch

    def _write(self, db: Connection, watch: Watch, begin: str, work: Work[T]) -> T:
        changed = watch.look()
        if changed is Changed.BY_OTHERS:
            self._read_anew(db, watch)
        with transaction(db, begin, line_s=LINE_S if self._patience_s == BUSY_S else 0):
            if changed is not Changed.NOT and rows.newest_change(db) < self._newest:
                raise Damaged(self.path, TAKEN_AWAY)  # an older copy was put in its place, in the same file
            done = work(db)
            newest = rows.newest_change(db)
            watch.check()
        self._newest = newest
        watch.note()
        return done

    def _read_anew(self, db: Connection, watch: Watch) -> None:
        """Forget what SQLite holds in memory of files that others have written to. Raises Damaged where they spoilt
        them."""
        with transaction(db, "BEGIN IMMEDIATE"):
            watch.check_content()
        for each in (db, self._reader):
            if each is not None:
                each.execute("PRAGMA shrink_memory")
        watch.note()

    def _bring_up_to_date(self, db: Connection, *, to_write: bool) -> None:
        """Migrate a file that could not be migrated when it was opened. Raises OlderRelease where that has to wait."""
        if self._is_migrated:
            return
        if to_write and not migrations.migrate(db, transaction, self._may_migrate):
            raise OlderRelease
        if migrations.is_current(db):
            migrations.read_as_is(db)
            self._is_migrated = True


@contextmanager
def transaction(db: Connection, begin: str, *, line_s: float = 0) -> Iterator[Connection]:
    """A transaction. While others hold the file one after another, it is begun again and again, for `line_s` seconds:
    SQLite knows no line."""
    if line_s:
        _begin_in_line(db, begin, time.monotonic() + line_s)
    else:
        db.execute(begin)
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _begin_in_line(db: Connection, begin: str, give_up_at: float) -> None:
    version = _version(db)
    while True:
        try:
            db.execute(begin)
        except sqlite3.OperationalError as error:
            before, version = version, _version(db)
            if code_of(error) not in _HELD or version == before or time.monotonic() > give_up_at:
                raise
        else:
            return


def _version(db: Connection) -> int:
    """What changes when others have written to the file."""
    version: int = db.execute("PRAGMA data_version").fetchone()[0]
    return version


def open_file(path: Path) -> Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, factory=Connection)
    try:
        _into_wal(db)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA temp_store = MEMORY")  # no file is opened in the middle of a record
    except BaseException:
        db.close()
        raise
    return db


def open_to_read(path: Path) -> Connection:
    """A second connection to a file that `open_file` made: it writes nothing and waits for nothing."""
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, factory=Connection)


def _into_wal(db: Connection) -> None:
    """WAL mode. The change is the one statement that SQLite's busy time-out does not cover: of several that open a new
    file at once, all but one are told that it is locked."""
    give_up_at = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if code_of(error) not in _HELD or time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)
        else:
            return


def problem(path: Path, error: Exception) -> FileProblem:
    """What to say where the file cannot be used."""
    what, code = why(error), code_of(error)
    if isinstance(error, Malformed) or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return Damaged(path, what)
    if code in _HELD:
        return held(path)
    message = _cannot_be_used(path, what)
    if isinstance(error, migrations.NewerSchema):
        return FileProblem(message, AskUser((Restart(), " with the newer version")))
    return FileProblem(
        message, AskUser(("check that folder (setting ", Setting("home"), "): it must be writable, with free space"))
    )


def held(path: Path) -> Held:
    """What to say where another process holds it."""
    message = _cannot_be_used(path, _WHY[sqlite3.SQLITE_BUSY])
    return Held(message, TryAgain(), AskUser("end whatever holds it if that does not help"))


def _cannot_be_used(path: Path, why_not: str) -> tuple[str, LocalText, str]:
    return "The ledger", LocalText(f" {path}", ""), f" cannot be used ({why_not})."


_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

_WHY: dict[int | None, str] = {
    sqlite3.SQLITE_BUSY: "another process holds it",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_PERM: "no permission",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is not a ledger",
}
_WHY_NOT: dict[int | None, str] = {
    errno.EROFS: "it is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}


def why(error: Exception) -> str:
    """Our words for what the file system or SQLite says; theirs could say anything."""
    if isinstance(error, migrations.NewerSchema):
        return "it was made by a newer version"
    if isinstance(error, Malformed):
        return "it is damaged"
    known = _WHY_NOT.get(error.errno) if isinstance(error, OSError) else _WHY.get(code_of(error))
    return known or "it cannot be opened or written"
