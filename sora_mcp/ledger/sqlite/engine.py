"""The ledger, kept in SQLite."""

from __future__ import annotations

from sora_mcp.ledger.sqlite.following import Following
from sora_mcp.ledger.sqlite.paying import Paying
from sora_mcp.ledger.sqlite.reading import Reading


class SqliteLedger(Paying, Following, Reading):
    """The ledger in the file at `path`; opened, and made, at first use. It keeps what `Ledger` promises."""
