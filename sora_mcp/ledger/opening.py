"""Opens the ledger and the documents with the configured engine, and inspects or fills a database.

The PostgreSQL driver is loaded only if it is needed: one person's server has a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sora_mcp.config.converters import Secret
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import AskUser, Setting
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.protocol import Ledger
from sora_mcp.ledger.sqlite.engine import SqliteLedger

if TYPE_CHECKING:
    from sora_mcp.config.documents import Documents
    from sora_mcp.ledger.postgres.copying import Copy
    from sora_mcp.ledger.postgres.engine import PostgresLedger
    from sora_mcp.ledger.postgres.inspection import Inspection


def open_ledger(
    path: Path, clock: Callable[[], float] = time.time, *, url: Secret | None = None, folder: Path | None = None
) -> Ledger:
    """Return the ledger in the SQLite file at `path`, or in the PostgreSQL database at `url`; created at first use.

    `folder`: the videos' folder, which servers may mount at different places; without it paths are stored as they are.
    `clock`: unix seconds; ignored for PostgreSQL, which uses the database's. Raises FileProblem if the address cannot
    be read or the PostgreSQL driver is not installed.
    """
    return SqliteLedger(path, clock) if url is None else _open_postgres(url.get_secret_value(), folder)


def _open_postgres(url: str, folder: Path | None) -> PostgresLedger:
    with _require_driver():
        from sora_mcp.ledger.postgres.engine import PostgresLedger  # noqa: PLC0415
    return PostgresLedger(url, folder=folder)


def open_documents(settings: Settings, *, watched: bool = False) -> Documents:
    """Return a server's documents: files below SORA_HOME, or rows beside the ledger for all servers that share it.

    `watched`: read them from memory in a running server, so that no reader waits for a database. Raises FileProblem as
    `open_ledger` does.
    """
    if settings.ledger_url is None:
        from sora_mcp.config.private_file import PrivateFiles  # noqa: PLC0415 - one person's server has none

        return PrivateFiles(settings.home)
    with _require_driver():
        from sora_mcp.ledger.postgres.documents import PostgresDocuments, WatchedDocuments  # noqa: PLC0415
    return (WatchedDocuments if watched else PostgresDocuments)(settings.ledger_url.get_secret_value())


def describe_database(url: Secret) -> str:
    """Return where the database is, without user and password. Raises FileProblem if the address cannot be read."""
    with _require_driver():
        from sora_mcp.ledger.postgres import address  # noqa: PLC0415
    return address.describe_database(url.get_secret_value())


def inspect(url: Secret) -> Inspection:
    """Inspect the database without changing it. Raises FileProblem if it cannot be reached or is unsuitable."""
    with _require_driver():
        from sora_mcp.ledger.postgres import inspection  # noqa: PLC0415
    return inspection.inspect(url.get_secret_value())


def copy_ledger(path: Path, url: Secret, *, is_dry_run: bool = False, again: bool = False) -> Copy:
    """Copy the ledger in the file at `path` into the database at `url`. See `postgres.copying.copy_ledger`."""
    with _require_driver():
        from sora_mcp.ledger.postgres import copying  # noqa: PLC0415
    return copying.copy_ledger(path, url.get_secret_value(), is_dry_run=is_dry_run, again=again)


@contextmanager
def _require_driver() -> Iterator[None]:
    """Raise FileProblem if what is imported inside is not installed."""
    try:
        yield
    except ImportError:
        message = ("The ledger is in PostgreSQL (", Setting("ledger_url"), "), and its driver is not installed.")
        raise FileProblem(message, AskUser("install this server with its extra `postgres`")) from None
