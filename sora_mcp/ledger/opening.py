"""Which engine keeps the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sora_mcp.config.converters import Secret
from sora_mcp.ledger.in_postgres import extra_needed
from sora_mcp.ledger.protocol import Ledger
from sora_mcp.ledger.sqlite.engine import SqliteLedger

if TYPE_CHECKING:
    from sora_mcp.ledger.postgres.engine import PostgresLedger


def open_ledger(path: Path, clock: Callable[[], float] = time.time, *, url: Secret | None = None) -> Ledger:
    """The ledger in the SQLite file at `path`, or in the PostgreSQL database at `url`; opened, and made, at first use.

    `clock`: unix seconds; in PostgreSQL its own counts. Raises FileProblem where there is no such address, or what
    speaks to PostgreSQL is not installed.
    """
    return SqliteLedger(path, clock) if url is None else _in_postgres(url.get_secret_value())


def _in_postgres(url: str) -> PostgresLedger:
    with extra_needed():
        from sora_mcp.ledger.postgres.engine import PostgresLedger  # noqa: PLC0415 - one person's server has a file
    return PostgresLedger(url)
