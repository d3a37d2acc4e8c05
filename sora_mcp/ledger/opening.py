"""Which engine keeps the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sora_mcp.ledger.protocol import Ledger
from sora_mcp.ledger.sqlite.engine import SqliteLedger


def open_ledger(path: Path, clock: Callable[[], float] = time.time) -> Ledger:
    """The ledger in the SQLite file at `path`, which is opened, and made, at first use. `clock`: unix seconds."""
    return SqliteLedger(path, clock)
