"""The ledger's SQLite file: made, brought up to date, read and written, and its troubles in our words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeVar, cast

from sora_mcp.errors import FileProblem
from sora_mcp.ledger import migrations, rows

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

KEPT_MOST = 256
"""Reads that are kept for as long as the file does not change."""

BUSY_S = 10.0
"""Seconds to wait for another process that holds the file, where what is to be written matters."""
BRIEFLY_S = 0.2
"""The same where it can be done later, or by others."""


class Held(FileProblem):
    """Another process holds the file, and may do so for long: one that was stopped, perhaps."""

    retryable = True


class OlderRelease(Held):
    """A process of an older release is in the middle of a POST: until it has recorded the answer, the file stays as
    it is, and can only be read."""

    def __init__(self) -> None:
        super().__init__(
            "Another window runs an older release of sora-mcp, which is in the middle of a create.",
            "Call again in a minute, and ask the user to restart the other windows.",
        )


class File:
    """The file at `path`: opened, and made, at first use.

    Once it is removed, or another is put in its place, nothing is read or written until it is back: what is recorded
    in a file that nobody finds again is forgotten.
    """

    def __init__(self, path: Path, may_migrate: Callable[[sqlite3.Connection], bool] = lambda _: True) -> None:
        self.path = path
        self._may_migrate = may_migrate
        self._is_migrated = False
        self._reads_older = False
        """Whether the reader still takes the file for one of an older release."""
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._opened: list[tuple[int, int] | None] = []
        self._kept: dict[Hashable, object] = {}
        self._kept_of = -1
        self.paths = [path.with_name(path.name + beside) for beside in ("", "-wal", "-shm")]
        """The file, and those that SQLite keeps beside it."""

    def close(self) -> None:
        """Close it; what was recorded stays."""
        for connection in (self._reader, self._connection):
            if connection is not None:
                connection.close()
        self._reader = self._connection = None
        self._is_migrated = False
        self._kept_of = -1

    def exists(self) -> bool:
        """Whether anything was ever recorded here."""
        return self._connection is not None or self.path.exists()

    def transact(self, begin: str, work: Work[T], patience_s: float = BUSY_S) -> T:
        """What `work` returns, in one transaction. Raises FileProblem, and nothing is written then.

        Where another process holds the file for longer than `patience_s`, that is a Held.
        """
        try:
            db = self._open()
            db.execute(f"PRAGMA busy_timeout = {patience_s * 1000:.0f}")
            self._bring_up_to_date(db, to_write=begin != "BEGIN")
            with transaction(db, begin):
                done = work(db)
                self._check_in_place()
                return done
        except (sqlite3.Error, OSError) as error:
            message = f"The ledger {self.path} cannot be used ({why(error)})."
            if "locked" in str(error):
                raise Held(message, "Call again; if it stays so, ask the user to end whatever holds it.") from error
            next_step = "Ask the user to check that folder (setting SORA_HOME): it must be writable, with free space."
            raise FileProblem(message, next_step) from error

    def glance(self, work: Work[T], key: Hashable = None) -> T:
        """A read that waits for nobody. Raises sqlite3.Error or OSError where anything is in the way, or in *sending*.

        What was read under a `key` is kept until the file changes.
        """
        if self._reader is None:
            raise sqlite3.OperationalError("not open yet")
        self._check_in_place()
        if self._reads_older and self._is_migrated:
            migrations.read_as_is(self._reader)
            self._reads_older = False
        version = self._reader.execute("PRAGMA data_version").fetchone()[0]
        if version != self._kept_of or len(self._kept) > KEPT_MOST:
            self._kept, self._kept_of = {}, version
        if key is not None and key in self._kept:
            return cast("T", self._kept[key])
        with transaction(self._reader, "BEGIN") as db:
            if rows.sending(db):
                raise sqlite3.OperationalError("something is being sent")
            read = work(db)
        if key is not None:
            self._kept[key] = read
        return read

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.touch(mode=0o600)
            before = identity(self.path)
            with ExitStack() as if_it_fails:
                connection = if_it_fails.enter_context(closing(open_file(self.path)))
                self._is_migrated = migrations.migrate(connection, transaction, self._may_migrate)
                reader = if_it_fails.enter_context(closing(open_to_read(self.path)))
                self._reads_older = not self._is_migrated
                if self._reads_older:
                    migrations.read_as_current(connection)
                    migrations.read_as_current(reader)
                connection.execute("SELECT count(*) FROM salt").fetchone()  # now its companions are there as well
                self._opened = self._identity()
                if self._opened[0] != before:  # replaced in this moment: it is opened anew the next time
                    raise sqlite3.OperationalError("taken away")
                self._connection, self._reader = connection, reader
                if_it_fails.pop_all()
        return self._connection

    def _bring_up_to_date(self, db: sqlite3.Connection, *, to_write: bool) -> None:
        """Migrate a file that could not be migrated when it was opened. Raises OlderRelease where that has to wait."""
        if self._is_migrated:
            return
        if to_write and not migrations.migrate(db, transaction, self._may_migrate):
            raise OlderRelease
        if migrations.is_current(db):
            migrations.read_as_is(db)
            self._is_migrated = True

    def _check_in_place(self) -> None:
        if self._identity() != self._opened:
            raise sqlite3.OperationalError("taken away")

    def _identity(self) -> list[tuple[int, int] | None]:
        return [identity(path) for path in self.paths]


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from any other, whatever its name; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def transaction(db: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    db.execute(begin)
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def open_file(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.row_factory = sqlite3.Row
        _into_wal(db)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA temp_store = MEMORY")  # no file is opened in the middle of a record
    except BaseException:
        db.close()
        raise
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """A second connection to a file that `open_file` made: it writes nothing and waits for nothing."""
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    return db


def _into_wal(db: sqlite3.Connection) -> None:
    """WAL mode. The change is the one statement that SQLite's busy time-out does not cover: of several that open a new
    file at once, all but one are told that it is locked."""
    give_up_at = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)
        else:
            return


def why(error: Exception) -> str:
    """Our words for what the file system or SQLite says."""
    text = (
        (error.strerror or "") if isinstance(error, OSError) else str(error)
    )  # without the path: it could say anything
    known = {
        "locked": "another process holds it",
        "readonly": "it is read-only",
        "read-only": "it is read-only",
        "full": "the disk is full",
        "No space": "the disk is full",
        "Permission": "no permission",
        "malformed": "it is damaged",
        "not a database": "it is not a ledger",
        "taken away": "it was removed or replaced while it was in use: put it back, or restart this server",
        "newer version": "it was made by a newer version",
    }
    return next((words for part, words in known.items() if part in text), "it cannot be opened or written")
