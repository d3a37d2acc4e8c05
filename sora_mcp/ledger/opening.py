"""Which engine keeps the ledger, and what servers know beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sora_mcp.config.converters import Secret
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import AskUser
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.protocol import Ledger
from sora_mcp.ledger.sqlite.engine import SqliteLedger

if TYPE_CHECKING:
    from sora_mcp.config.documents import Documents
    from sora_mcp.ledger.postgres.engine import PostgresLedger


def open_ledger(path: Path, clock: Callable[[], float] = time.time, *, url: Secret | None = None) -> Ledger:
    """The ledger in the SQLite file at `path`, or in the PostgreSQL database at `url`; opened, and made, at first use.

    `clock`: unix seconds; in PostgreSQL its own counts. Raises FileProblem where there is no such address, or what
    speaks to PostgreSQL is not installed.
    """
    return SqliteLedger(path, clock) if url is None else _in_postgres(url.get_secret_value())


def _in_postgres(url: str) -> PostgresLedger:
    try:
        from sora_mcp.ledger.postgres.engine import PostgresLedger  # noqa: PLC0415 - one person's server has a file
    except ImportError:
        raise _not_installed() from None
    return PostgresLedger(url)


def open_documents(settings: Settings, *, watched: bool = False) -> Documents:
    """The documents of a server: files below SORA_HOME, or where the ledger is, for all servers that share it.

    `watched`: for a server that runs: nothing that reads them waits for a database. Raises FileProblem as
    `open_ledger` does.
    """
    if settings.ledger_url is None:
        from sora_mcp.config.private_file import PrivateFiles  # noqa: PLC0415 - one person's server has none

        return PrivateFiles(settings.home)
    try:
        from sora_mcp.ledger.postgres.documents import PostgresDocuments, WatchedDocuments  # noqa: PLC0415 - likewise
    except ImportError:
        raise _not_installed() from None
    return (WatchedDocuments if watched else PostgresDocuments)(settings.ledger_url.get_secret_value())


def _not_installed() -> FileProblem:
    message = "The ledger is in PostgreSQL, and what speaks to it is not installed."
    return FileProblem(message, AskUser("install this server with its extra `postgres`"))
